"""An end with its decision, and a command that concerned several programs, are one row each."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.database.event_log import LoggedEvent
from bisnesctl.database.event_rows import incomplete, joined, subject
from bisnesctl.database.event_sentences import sentence
from bisnesctl.terminal import event_view, output

AT = 1_770_000_000.0
EXITED = LoggedEvent(AT, "api", "process_exited", "error", {"instance": "api-0", "pid": "7"})
DECIDED = LoggedEvent(
    AT + 0.3, "api", "process_restarting", "warning",
    {"instance": "api-0", "reason": "it was killed by SIGKILL (attempt 1 of 10)", "lived": 30.0,
     "memory_mb": 116, "until": AT + 2.3},
)  # fmt: skip
HUNG = LoggedEvent(AT + 0.2, "api", "process_hung", "error", {"instance": "api-0", "reason": "no heartbeat for 70 s",
                                                              "hangs": 2})  # fmt: skip
STARTED = LoggedEvent(AT + 2.5, "api", "process_starting", "info", {"instance": "api-0"})


def of(event: LoggedEvent, name: str) -> LoggedEvent:
    return LoggedEvent(event.at, event.program, event.kind, event.severity, {**event.data, "instance": name})


def typed(program: str, *names: str, command: str = "restart all", pid: int = 5) -> LoggedEvent:
    data = {"user": "root", "tty": "", "pid": pid, "command": command, "instances": list(names)}
    return LoggedEvent(AT, program, "operator_restart", "info", data)


@pytest.mark.parametrize("reported_first", [True, False])
def test_an_end_is_one_row_in_either_order(reported_first: bool) -> None:
    early = LoggedEvent(AT - 0.2, "api", "process_restarting", "warning", DECIDED.data)
    (row, started) = joined([EXITED, DECIDED, STARTED] if reported_first else [early, EXITED, STARTED])
    assert row.severity == "error"
    assert row.at <= EXITED.at
    assert sentence(row).startswith("it was killed by SIGKILL (attempt 1 of 10), after 30s, with 116 MB; the guard")
    assert started.kind == "process_starting"


@pytest.mark.parametrize("first", [EXITED, HUNG, DECIDED])
def test_half_of_a_row_waits_some_seconds_for_the_other(first: LoggedEvent) -> None:
    assert incomplete([first, STARTED], first.at + 1) == [first]
    assert incomplete([first, of(EXITED, "api-1"), of(DECIDED, "api-1")], first.at + 1) == [first]
    assert incomplete([first], first.at + 60) == []
    assert incomplete([DECIDED, EXITED, HUNG], EXITED.at + 1) == []


def test_the_time_is_that_of_the_report_and_not_of_the_decision() -> None:
    assert joined([EXITED, DECIDED])[0].at == EXITED.at


def test_each_end_has_its_own_row() -> None:
    later = [LoggedEvent(each.at + 60, each.program, each.kind, each.severity, each.data) for each in (EXITED, DECIDED)]
    assert [row.kind for row in joined([EXITED, DECIDED, STARTED, *later])] == [
        "process_restarting", "process_starting", "process_restarting",
    ]  # fmt: skip
    other = [of(EXITED, "api-1"), of(DECIDED, "api-1")]
    assert [row.subject for row in joined([EXITED, other[0], DECIDED, other[1]])] == ["api-0", "api-1"]


def test_an_end_without_a_decision_stays() -> None:
    assert joined([EXITED, STARTED]) == [EXITED, STARTED]
    assert joined([EXITED]) == [EXITED]


def test_a_hang_is_part_of_its_end() -> None:
    decided = LoggedEvent(AT + 0.3, "api", "process_restarting", "warning",
                          {"instance": "api-0", "reason": "no heartbeat for 70 s", "lived": 90.0})  # fmt: skip
    for order in permutations([EXITED, HUNG, decided]):
        if order.index(HUNG) < order.index(decided):  # the guard records them so
            (row,) = joined(order)
            assert sentence(row).startswith("it hung: no heartbeat for 70 s (2 times within an hour), after 1m 30s; ")


def test_a_command_is_one_row() -> None:
    (row,) = joined([typed("api", "api-0", "api-1"), typed("meta", "meta"), typed("events", "events")])
    assert row.instances == ("api-0", "api-1", "meta", "events")
    assert subject(row, 14) == "all"
    assert len(joined([typed("api", "api-0", pid=5), typed("api", "api-0", pid=6)])) == 2


def test_many_names_are_counted() -> None:
    assert subject(typed("meta-worker", "meta-worker-1", "meta-worker-2", command="restart meta-worker"), 14) == (
        "2 processes"
    )
    assert subject(typed("api", "api-0", "api-1", command="restart api"), 14) == "api-0, api-1"
    assert subject(typed("api", "api-0", "api-1", "meta", command="start --multiprocess"), 14) == "all"
    assert subject(of(EXITED, "wwebjs-session-0128-2"), 14) == "wwebjs-session-0128-2"


def test_one_long_subject_does_not_move_the_others_below(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output.out.cache_clear()
    long = typed("meta-worker", *(f"meta-worker-{each}" for each in range(6)), command="restart meta-worker")
    event_view.show([long, of(STARTED, "api-0"), of(STARTED, "wwebjs-session-0128-2")])
    output.out.cache_clear()
    lines = capsys.readouterr().out.splitlines()
    assert sum("it starts" in line and "info" in line for line in lines) == 2
    assert "6 processes" in lines[0]
    assert max(map(len, lines)) <= 80


KINDS = ["process_exited", "process_backoff", "process_fatal", "process_hung", "process_restarting", "process_blocked",
         "process_starting", "process_running", "operator_stop"]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(["api-0", "api-1"]), st.floats(0, 100))))
def test_no_decision_and_no_order_is_lost(found: list[tuple[str, str, float]]) -> None:
    events = [LoggedEvent(at, "api", kind, "info", {"instance": name}) for kind, name, at in sorted(
        found, key=lambda each: each[2])]  # fmt: skip
    rows = joined(events)
    assert [each.at for each in rows] == sorted(each.at for each in rows)
    for kind in ("process_restarting", "process_blocked", "process_starting", "operator_stop"):
        assert sum(each.kind == kind for each in rows) == sum(each.kind == kind for each in events)
