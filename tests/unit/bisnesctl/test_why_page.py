"""The first line of `bisnesctl why` says it all, once."""

import io

import pytest

from bisnesctl.cli import why
from bisnesctl.diagnosis.chain import Diagnosis, Link, State
from bisnesctl.terminal import output
from bisnesctl.terminal.output import SafeConsole

RUNS = Link("supervisord", State.OK, "it runs (pid 7)")
STOPPED = Link("meta-worker-1", State.DELAYS, "it is stopped on purpose (by root, 05:58)",
               command="bisnesctl start meta-worker-1")  # fmt: skip
DOWN = Link("api-0", State.BLOCKS, "it is failed: exited", command="bisnesctl logs api-0 && bisnesctl restart api-0")


@pytest.fixture
def page(monkeypatch):
    def show(diagnosis):
        file = io.StringIO()
        console = SafeConsole(file=file, highlight=False, emoji=False, width=80)
        monkeypatch.setattr(output, "out", lambda: console)
        why._show(diagnosis, first=True)
        return file.getvalue()

    return show


def test_a_process_that_is_stopped_on_purpose_says_so_once(page):
    said = page(Diagnosis("meta-worker-1", "it stays stopped", "stopped", [RUNS, STOPPED]))
    assert said.splitlines()[0] == (
        "meta-worker-1 is stopped on purpose (by root, 05:58). Start it: bisnesctl start meta-worker-1"
    )
    assert said.count("on purpose") == 1
    assert "restart" not in said


def test_a_process_that_failed_is_not_its_own_cause_by_name(page):
    said = page(Diagnosis("api-0", "it runs", "failed", [RUNS, DOWN]))
    assert said.splitlines()[0] == "api-0 is failed: exited"
    assert "bisnesctl restart api-0" in said


def test_a_cause_that_is_no_sentence_about_the_target_follows_a_colon(page):
    new = Link("supervisord", State.BLOCKS, "nothing was started here yet", command="bisnesctl start --multiprocess")
    said = page(Diagnosis("supervisord", "it runs", "gone", [new]))
    assert said.splitlines()[0] == (
        "supervisord: nothing was started here yet. Start it: bisnesctl start --multiprocess"
    )


def test_another_cause_is_named(page):
    said = page(Diagnosis("0128-0", "it sends", "1 message waits", [RUNS, STOPPED]))
    assert said.splitlines()[0] == "0128-0 waits because of: meta-worker-1"
    assert "… meta-worker-1 it is stopped on purpose" in said


def test_nothing_prevents_what_works(page):
    assert page(Diagnosis("api-0", "it runs", "healthy", [RUNS])).startswith("api-0: nothing prevents it\n")
