"""The commands to type for an instance: look before anything else, and start what does not run."""

import pytest

from bisnesctl.health import next_steps
from bisnesctl.health.probes import Status

LOOK, START, RESTART = "bisnesctl logs api-0 --lines 30", "bisnesctl start api-0", "bisnesctl restart api-0"


def steps(status, reason=""):
    return next_steps.commands(status, "api-0", "api", reason)


@pytest.mark.parametrize("status", [Status.FAILED, Status.BLOCKED, Status.DOWN])
def test_what_does_not_run_is_looked_at_and_then_started(status):
    found = steps(status)
    assert (found[0], found[-1]) == (LOOK, START)
    assert RESTART not in found


def test_a_failure_has_a_step_that_finds_its_cause():
    assert steps(Status.FAILED) == [LOOK, "bisnesctl doctor", START]
    assert steps(Status.FAILING) == [LOOK, "bisnesctl doctor"]


@pytest.mark.parametrize("status", [Status.UNHEALTHY, Status.DEGRADED])
def test_what_runs_and_does_not_work_is_looked_at_and_then_restarted(status):
    assert steps(status) == [LOOK, RESTART]


def test_commands_that_only_the_reason_names_come_first():
    assert steps(Status.DOWN, f"it does not run: `{START}`") == [LOOK, START]
    assert steps(Status.FAILED, "see `bisnesctl bots list`")[:2] == ["bisnesctl bots list", LOOK]
    assert steps(Status.EXTRA, "`bisnesctl stop api-0`") == ["bisnesctl stop api-0"]
    assert steps(Status.EXTRA, "see `bisnesctl stop …`") == ["bisnesctl restart api"]


@pytest.mark.parametrize("status", [Status.HEALTHY, Status.STARTING, Status.STOPPING])
def test_nothing_is_to_be_done_where_nothing_is_wrong(status):
    assert steps(status) == []


@pytest.mark.parametrize("status", Status)
def test_every_status_has_an_answer(status):
    assert all(each.startswith("bisnesctl ") for each in steps(status))
