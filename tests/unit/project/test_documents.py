"""The README tells the truth: its settings are the settings, its commands exist with the options it names."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bisnesctl.__main__ import main
from bisnesctl.cli.app import app, load_commands
from bisnesctl.settings import Settings

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
DOCUMENTS = (README, (ROOT / "CONTRIBUTING.md").read_text(), (ROOT / "conf/cron/bisnesctl.cron").read_text())

#: What ends a command in a shell's line.
SHELL = re.compile(r"\s(?:\||&&|\|\||;|[0-9]?[<>]+|#)|\)")


def code(text: str) -> list[str]:
    """Every line of a block of code, and everything between backticks."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def commands(text: str) -> list[str]:
    """The command lines of bisnesctl in a document, without the shell around them."""
    found = [re.split(r"(?:^|[\s/(])bisnesctl\s", line, maxsplit=1) for line in code(text)]
    return [SHELL.split(f" {parts[1]}")[0].strip() for parts in found if len(parts) == 2]


def cron_commands(text: str) -> list[str]:
    return [SHELL.split(each)[0] for each in re.findall(r"bin/bisnesctl (.*)", text)]


ALL_COMMANDS = sorted({each for text in DOCUMENTS for each in [*commands(text), *cron_commands(text)]})


@pytest.mark.parametrize("line", ALL_COMMANDS)
def test_every_command_in_the_documents_parses(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--help` behind it every word is still parsed, and nothing runs."""
    assert main([*shlex.split(line), "--help"]) == 0, capsys.readouterr().err


def test_the_documents_name_commands() -> None:
    assert len(ALL_COMMANDS) > 15


def test_every_command_is_in_the_readme() -> None:
    load_commands()
    assert {command.name or (command.callback or str).__name__ for command in app.registered_commands} | {
        str(group.name) for group in app.registered_groups
    } <= {line.split()[0] for line in commands(README) if line}


def table() -> dict[str, str]:
    """The configuration table: default by name."""
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]*) \|", README, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a setting stands in the table twice"
    return dict(rows)


def shown(default: Any) -> str:
    """How the table shows a default."""
    if default in (None, "", SecretStr("")):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_table_of_settings_is_complete_and_right() -> None:
    assert table() == {name.upper(): shown(field.default) for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("script", sorted(set(re.findall(r"scripts/[a-z][a-z.-]*[a-z]", " ".join(DOCUMENTS)))))
def test_every_script_in_the_documents_exists(script: str) -> None:
    path = ROOT / script
    assert path.is_dir() or path.stat().st_mode & 0o111


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:|#)([^)#]+)", README))))
def test_every_link_of_the_readme_has_a_target(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_readme_of_the_tests_names_every_support_module():
    readme = (ROOT / "tests" / "README.md").read_text()
    modules = {path.stem for path in (ROOT / "tests" / "support").rglob("*.py")}
    assert not {name for name in modules if f"{name}`" not in readme}
