"""`bisnesctl help`: the pages in the terminal, and the suggestions for a topic that does not exist."""

import configparser
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from bisnesctl.__main__ import main
from bisnesctl.errors import ExitCode, UsageError
from bisnesctl.terminal import help_pages, output

PAGES = help_pages.pages()
ROOT = Path(__file__).parents[3]


def test_the_list_has_a_line_for_each_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for page in PAGES:
        assert any(re.fullmatch(rf"  {page.topic} +{re.escape(page.summary)}", line) for line in lines), page.topic


def test_topics_are_unique() -> None:
    assert len({page.topic for page in PAGES}) == len(PAGES) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.topic)
def test_a_page_begins_with_its_title_and_a_short_sentence(page: help_pages.Page) -> None:
    assert page.text.startswith("# ")
    assert 20 <= len(page.summary) <= 110
    assert page.summary.endswith(".")


def test_a_piped_page_is_plain_markdown_without_comments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "quickstart"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# Quickstart\n")
    assert "```sh\nscripts/quickstart\n```" in shown
    assert "<!--" not in shown


@pytest.mark.parametrize(
    "typed", [["roll-back"], ["rollback"], ["roll", "back"], ["Roll-Back.md"], ["how-to/roll-back"]]
)
def test_a_topic_may_be_typed_in_several_ways(typed: list[str]) -> None:
    assert help_pages.find(typed).topic == "roll-back"


def test_a_terminal_gets_a_formatted_page_in_its_pager(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(output, "out", lambda: Console(file=screen, force_terminal=True, width=80, highlight=False))
    monkeypatch.setattr("pydoc.pager", screen.write)
    assert main(["help", "monitor"]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert "Monitor" in shown
    assert "bisnesctl health --probe" in shown
    assert "bisnesctl help exit-codes" in shown  # a link that can be typed
    assert "](" not in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("topic", "suggested"),
    [
        ("troubleshot", "bisnesctl help troubleshoot"),
        ("blocked", "bisnesctl help troubleshoot"),
        ("probe", "bisnesctl help monitor"),
        ("probe critical", "bisnesctl help monitor"),
        ("webhook", "bisnesctl help webhooks"),
        ("start", "bisnesctl start --help"),
    ],
)
def test_an_unknown_topic_names_what_may_be_meant(
    topic: str, suggested: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["help", *topic.split()]) == ExitCode.USAGE
    shown = capsys.readouterr().err
    assert f"there is no page {topic}" in shown
    assert f"`{suggested}`" in shown
    assert len(shown.splitlines()) == 1


def test_a_topic_like_no_other_has_no_suggestions() -> None:
    with pytest.raises(UsageError, match=r"^there is no page xyzzy; `bisnesctl help` lists all pages$"):
        help_pages.find(["xyzzy"])


def test_the_pages_are_part_of_the_installed_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "bisnesctl.docs" in setup["options"]["packages"].split()
    assert "bisnesctl.docs = docs" in setup["options"]["package_dir"]
    packaged = set((ROOT / "docs").glob(setup["options.package_data"]["bisnesctl.docs"]))
    assert {page.path for page in PAGES} <= packaged
