"""The pages of `bisnesctl describe` on the screen."""

import io
from pathlib import Path

import pytest

from bisnesctl.processes.deployment import make_folders, open_deployment
from bisnesctl.terminal import output, page_view
from bisnesctl.terminal.output import SafeConsole
from bisnesctl.views import process_page
from tests.support.processes.servers import settings_in

VARIABLES = {"API_PORT": "3000", "ENCRYPTION_KEY": "***", "EDITOR": "vi", "TERM": "xterm"}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    file = io.StringIO()
    console = SafeConsole(file=file, highlight=False, emoji=False, width=80)
    monkeypatch.setattr(output, "out", lambda: console)
    return file


@pytest.mark.parametrize("every", [False, True])
def test_the_environment_is_shown_in_part_or_in_full(screen: io.StringIO, every: bool) -> None:
    page_view._environment(VARIABLES, every)
    shown = screen.getvalue()
    assert "API_PORT=3000" in shown
    assert "ENCRYPTION_KEY=***" in shown
    assert ("EDITOR=vi" in shown, "TERM=xterm" in shown) == (every, every)
    assert ("and 2 others (--env shows all)" in shown) is not every


@pytest.mark.parametrize(("rate", "shown"), [(0.5, "0.5"), (0.25, "0.25"), (4.0, "4"), (20.0, "20"), (123.4, "123")])
def test_a_small_number_is_not_rounded_to_nothing(rate: float, shown: str) -> None:
    assert page_view._pairs({"messages_per_second": rate}) == f"messages per second {shown}"


def test_a_page_without_events_says_so_in_words(screen: io.StringIO) -> None:
    page_view._events("Events", [])
    assert screen.getvalue() == "\nEvents\n  none is recorded\n"


def test_the_limit_of_a_process_that_does_not_run_is_not_shown_as_its_use(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    make_folders(settings)
    deployment = open_deployment(settings)
    [page] = process_page.describe(deployment, [each for each in deployment.instances if each.name == "meta"])
    assert page_view._memory(page) == "limit 512 MB"
