"""When the guard restarts a program, and when it does not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.guard import policy
from bisnesctl.guard.policy import (
    BLOCK_SECONDS,
    COUNTED_SECONDS,
    MAX_FAILED_STARTS,
    MAX_HANGS,
    MAX_PAUSE_SECONDS,
    Decision,
    History,
    ended,
)
from bisnesctl.processes.topology import Program

ROW = Program("worker", "works", "work", restart_delay=1.0, min_uptime=10, max_restarts=4)
SESSION = replace(ROW, final_exits=frozenset({77}), failed_starts=frozenset({75}), dynamic=True)


def die(history, times, row=ROW, status=1, lived=1.0, now=1000.0):
    """The history of an instance that dies this many times and is restarted each time."""
    for _ in range(times):
        history = ended(policy.started(history), row, status, lived, now)
    return history


def pause(history, now=1000.0):
    return round(history.decision.at - now, 6)


def test_pauses_after_restarts_because_of_memory_grow() -> None:
    history, pauses = History(), []
    for _ in range(4):
        history = policy.renewed(history, ROW, "too much", 100.0)
        assert history.decision is not None
        pauses.append((history.decision.at or 0.0) - 100.0)
        history = policy.forgiven(policy.started(history), 1e6, ROW)
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[3] > pauses[1] > 0
    assert policy.renewed(history, ROW, "too much", 1e6).decision == Decision("restart", "too much", 1e6)


def test_a_death_after_a_long_life_is_followed_by_a_start_after_the_delay():
    history = die(History(), 30, lived=60.0)
    assert history.decision.decision == "restart"
    assert pause(history) == ROW.restart_delay
    assert history.deaths == ()


def test_pauses_grow_with_quick_deaths_up_to_a_limit():
    row = replace(ROW, max_restarts=20)
    pauses = [pause(die(History(), times, row)) for times in range(1, 12)]
    assert pauses[:4] == [1, 2, 4, 8]
    assert max(pauses) == MAX_PAUSE_SECONDS


def test_one_quick_death_too_many_fails_with_a_reason():
    assert die(History(), 4).decision.decision == "restart"
    last = die(History(), 5).decision
    assert (last.decision, last.at) == ("fail", None)
    assert "5 quick deaths" in last.reason
    assert "exit status 1" in last.reason


@pytest.mark.parametrize(("status", "lived", "hang"), [(1, 1.0, ""), (75, 60.0, ""), (-1, 60.0, "it hung")])
def test_a_start_by_an_operator_after_a_failure_clears_the_history(status, lived, hang):
    def tries(history):
        count = 0
        while not count or history.decision.decision == "restart":
            history = ended(policy.started(history), SESSION, status, lived, 1000.0, hang)
            count += 1
        return history, count

    given_up, count = tries(History())
    assert tries(given_up)[1] == count


def test_old_deaths_do_not_count():
    old = die(History(), 4, now=0.0)
    assert die(old, 1, now=COUNTED_SECONDS + 1).decision.decision == "restart"


def test_a_long_life_wipes_out_quick_deaths():
    history = policy.started(die(History(), 4))
    assert policy.forgiven(history, 5.0, ROW) == history
    assert policy.forgiven(history, 10.0, ROW) == History()


def test_a_final_exit_is_blocked_until_an_operator_starts_it():
    history = die(History(), 1, SESSION, status=77, lived=100.0)
    assert (history.decision.decision, history.decision.at) == ("block", None)
    assert not policy.due(history, 1e12)


def test_failed_starts_in_a_row_are_blocked_for_an_hour():
    history = die(History(), MAX_FAILED_STARTS, SESSION, status=75, lived=60.0)
    assert (history.decision.decision, pause(history)) == ("block", BLOCK_SECONDS)
    assert not policy.due(history, 1000.0 + BLOCK_SECONDS - 1)
    assert policy.due(history, 1000.0 + BLOCK_SECONDS)
    between = die(die(History(), MAX_FAILED_STARTS - 1, SESSION, status=75), 1, SESSION, status=1)
    assert die(between, 1, SESSION, status=75).decision.decision == "restart"


def hang(history, times, lived=1000.0, now=1000.0):
    for _ in range(times):
        history = policy.forgiven(policy.started(history), lived, SESSION)
        history = ended(history, SESSION, -1, lived, now, "no heartbeat for 130 s")
    return history


def test_hangs_are_followed_by_starts_after_growing_pauses_then_by_a_block_however_long_it_lived():
    assert [pause(hang(History(), times)) for times in range(1, MAX_HANGS + 1)] == [1, 2, 4, 8, 16]
    assert "no heartbeat for 130 s" in hang(History(), 1).decision.reason
    last = hang(History(), MAX_HANGS + 1)
    assert (last.decision.decision, pause(last)) == ("block", BLOCK_SECONDS)
    assert "no heartbeat" in last.decision.reason
    assert last.deaths == ()


def test_a_program_that_serves_many_bots_is_always_restarted_after_a_hang():
    history, api = History(), replace(SESSION, dynamic=False, max_restarts=0)
    for _ in range(3 * MAX_HANGS):
        history = ended(policy.started(history), api, -1, 1000.0, 1000.0, "no thread has ended a request for 61 s")
    assert (history.decision.decision, pause(history)) == ("restart", MAX_PAUSE_SECONDS)


def test_old_hangs_do_not_count():
    old = hang(History(), MAX_HANGS, now=0.0)
    assert pause(hang(old, 1, now=COUNTED_SECONDS + 1), COUNTED_SECONDS + 1) == SESSION.restart_delay


def test_a_long_life_does_not_wipe_out_hangs():
    found = policy.forgiven(policy.started(hang(History(), 2)), 1e6, SESSION)
    assert (len(found.hangs), found.hung) == (2, "no heartbeat for 130 s")


def test_a_program_without_restarts_fails_at_once():
    assert die(History(), 1, replace(ROW, max_restarts=0), lived=1e6).decision.decision == "fail"


lives = st.tuples(st.sampled_from([0, 1, 75, 77, -1]), st.floats(0, 100), st.floats(0, 10_000))


@given(st.lists(lives, max_size=30))
def test_every_history_has_one_decision_with_a_reason_and_no_early_start(deaths):
    history, now = History(), 0.0
    for status, lived, later in deaths:
        now += lived
        history = ended(policy.started(history), SESSION, status, lived, now)
        decision = history.decision
        assert isinstance(decision, Decision)
        assert decision.reason
        assert len(history.deaths) <= SESSION.max_restarts + 1
        if decision.decision == "restart":
            assert SESSION.restart_delay - 1e-6 <= decision.at - now <= MAX_PAUSE_SECONDS + 1e-6
        assert policy.due(history, now + later) == (decision.at is not None and now + later >= decision.at)
        if not policy.due(history, now + later):
            return  # nobody starts it
        now += later


@pytest.mark.parametrize(("decision", "at"), [("fail", None), ("block", 100.0)])
def test_a_failure_with_another_cause_is_put_off(decision, at):
    found = policy.put_off(History(decision=Decision(decision, "3 quick deaths", at)), "the disk is full", 10.0)
    assert found.decision == Decision("restart", "3 quick deaths; the disk is full", 10.0 + MAX_PAUSE_SECONDS)


@pytest.mark.parametrize("decision", [None, Decision("block", "kicked"), Decision("restart", "it died", 11.0)])
def test_a_block_that_a_restart_would_not_help_stays(decision):
    assert policy.put_off(History(decision=decision), "the disk is full", 10.0) == History(decision=decision)
