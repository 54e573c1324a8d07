"""The documents are true: commands, options, settings, scripts, links and quoted messages exist."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bisnesctl import __version__
from bisnesctl.__main__ import load_commands, main
from bisnesctl.cli.app import app
from bisnesctl.settings import Settings
from services.events.sender import signature
from tests.support.documents import DOCUMENTS, PAGES, ROOT, blocks, name

README = ROOT / "README.md"
CRON = ROOT / "conf/cron/bisnesctl.cron.j2"
TROUBLESHOOT = ROOT / "docs/how-to/troubleshoot.md"
#: Messages on the page that are others' words.
FOREIGN_MESSAGES = {"unsupported startup parameter: options"}
#: Names in capitals that are no settings: variables of the shell, states, constants of the system.
NO_SETTINGS = {
    "BISNES_ENV", "BISNES_API_KEY", "MESSAGE_ID", "INCOMING_ID", "WEBHOOK_ID", "SCAN_QR_CODE", "NOT_MOVED",
}  # fmt: skip
#: A path below the project, as documents name one.
FILE = re.compile(r"(?:bisnesctl|services|conf|sql|scripts|docs|tests)/[a-z_/.]*")
#: Ends a command in a line of the shell.
SHELL = re.compile(r"\s(?:\||&&|\|\||;|[0-9]?[<>]+|#)|\)")
#: Commands that the documents name with a placeholder for the rest.
PLACEHOLDERS = ("COMMAND", "TOPIC")


def spans(text: str) -> list[str]:
    """Everything between backticks outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))


def code(text: str) -> list[str]:
    """Every line of a block of shell, and everything between backticks."""
    shell = [block.text for block in blocks(text) if block.language == "sh"]
    return [line for each in shell for line in each.replace("\\\n", " ").splitlines()] + spans(text)


def commands(text: str) -> list[str]:
    """The command lines of bisnesctl in a document, without the shell around them."""
    found = [re.split(r"(?:^|[\s/(])bisnesctl\s", line, maxsplit=1) for line in code(text) if not line.startswith("#")]
    lines = [SHELL.split(f" {parts[1]}")[0].strip() for parts in found if len(parts) == 2]
    return [line for line in lines if not set(line.split()) & set(PLACEHOLDERS) and "…" not in line]


def cron_commands(text: str) -> list[str]:
    found = re.findall(r"(?:bin/bisnesctl|\{\{ command \}\}) (.*)", text)
    return [SHELL.split(re.sub(r"\{\{.*?\}\}", "", each))[0] for each in found]


ALL_COMMANDS = sorted(
    {each for path in DOCUMENTS for each in commands(path.read_text())}
    | {each for path in [*DOCUMENTS, CRON] for each in cron_commands(path.read_text())}
)


@pytest.mark.parametrize("line", ALL_COMMANDS)
def test_a_command_of_the_documents_is_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--help` behind it every word is still parsed, and nothing runs."""
    assert main([*shlex.split(line), "--help"]) == 0, capsys.readouterr().err


def test_the_documents_name_commands() -> None:
    assert len(ALL_COMMANDS) > 60


def test_every_command_is_explained_outside_of_the_reference() -> None:
    load_commands()
    known = {command.name or (command.callback or str).__name__ for command in app.registered_commands}
    known |= {str(group.name) for group in app.registered_groups}
    written = [path for path in PAGES if path.name != "cli.md"]
    assert known <= {line.split()[0] for path in written for line in commands(path.read_text()) if line}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_the_settings_of_a_document_exist(path: Path) -> None:
    named = {found for span in spans(path.read_text()) if (found := setting(span))}
    assert named <= {field.upper() for field in Settings.model_fields} | NO_SETTINGS


def setting(span: str) -> str | None:
    """The name in capitals with an underscore that a span is, or assigns to."""
    found = re.fullmatch(r"\$?([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=.*)?", span)
    return found[1] if found else None


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_the_scripts_of_a_document_exist(path: Path) -> None:
    for script in re.findall(r"\bscripts/[a-z][a-z0-9.-]*[a-z0-9]", path.read_text()):
        assert (ROOT / script).is_dir() or (ROOT / script).stat().st_mode & 0o111, script


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_the_files_that_a_document_names_exist(path: Path) -> None:
    named = {span for span in spans(path.read_text()) if FILE.fullmatch(span)}
    assert {each for each in named if not (ROOT / each).exists()} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_the_links_of_a_document_lead_somewhere(path: Path) -> None:
    missing = [f"{link}#{anchor}" for link, anchor in links(path) if not leads_somewhere(path, link, anchor)]
    assert missing == []


def links(path: Path) -> Iterator[tuple[str, str]]:
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", path.read_text()):
        target, _, anchor = link.partition("#")
        yield target, anchor


def leads_somewhere(path: Path, link: str, anchor: str) -> bool:
    target = (path.parent / link).resolve() if link else path
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(path: Path) -> set[str]:
    """The anchors of headings, as forges make them from their texts."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_a_block_that_is_not_run_says_why(path: Path) -> None:
    marks = {block.mark for block in blocks(path.read_text()) if block.mark}
    assert all(mark == "background" or re.fullmatch(r"not run: \w.{10,}", mark) for mark in marks)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_the_json_of_a_document_is_valid(path: Path) -> None:
    for block in blocks(path.read_text()):
        if block.language == "json":
            assert json.loads(block.text), block.text


def test_the_documented_check_of_a_signature_accepts_ours_and_no_other() -> None:
    page = ROOT / "docs/how-to/receive-events.md"
    (code,) = (block.text for block in blocks(page.read_text()) if block.language == "python")
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    is_authentic = namespace["is_authentic"]
    headers = {"X-Webhook-Hmac": signature("secret", b"body")}
    assert is_authentic("secret", b"body", headers)
    assert not is_authentic("secret", b"another body", headers)
    assert not is_authentic("secret", b"body", {})


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs/index.md"
    named = {(index.parent / link).resolve() for link, _ in links(index)}
    decisions = set((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert {path for path in PAGES if path != index} - decisions <= named


def test_the_readme_stays_short() -> None:
    assert len(README.read_text().splitlines()) <= 200


def test_the_changelog_has_a_section_of_this_version_below_unreleased_changes() -> None:
    sections = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(__version__)} - \d{{4}}-\d\d-\d\d", sections[1])


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/lib/reference", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def source() -> str:
    """All code and SQL, literals that stand side by side joined."""
    files = [path for folder in ("bisnesctl", "services") for path in (ROOT / folder).rglob("*.py")]
    text = "\n".join(path.read_text() for path in files)
    return re.sub(r"\"\s*f?\"", "", text)


@pytest.mark.parametrize("symptom", re.findall(r"^\| (.*?) \|", TROUBLESHOOT.read_text(), re.MULTILINE))
def test_quoted_messages_exist(symptom: str) -> None:
    """A quoted message may leave out what varies: by an ellipsis, a number, or the name of a program."""
    for message in {span for span in spans(symptom) if " " in span} - FOREIGN_MESSAGES:
        for piece in re.split(r"…|\d+| of api |: | /", message):
            assert piece.strip(" :") in SOURCE, message


SOURCE = source()


def test_the_readme_of_the_tests_names_every_support_module():
    readme = (ROOT / "tests" / "README.md").read_text()
    modules = {path.stem for path in (ROOT / "tests" / "support").rglob("*.py")}
    assert not {module for module in modules if f"{module}`" not in readme}
