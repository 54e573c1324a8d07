"""Each process event becomes a sentence that says who, what, how it ended, and what the guard decided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.database.event_log import EventFilter, LoggedEvent
from bisnesctl.database.event_sentences import sentence

AT = 1_770_000_000.0
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def said(kind: str, **data: object) -> str:
    return sentence(LoggedEvent(AT, "api", kind, "warning", {"instance": "api-0", "host": "web", **data}))


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("process_restarting",
         {"reason": "it was killed (attempt 1 of 10)", "until": AT + 2, "lived": 130.0, "memory_mb": 116},
         "it was killed (attempt 1 of 10), after 2m 10s, with 116 MB; the guard starts it again in 2s"),
        ("process_restarting", {"reason": "it ended with exit status 1", "until": AT},
         "it ended with exit status 1; the guard starts it again at once"),
        ("process_blocked", {"reason": "it ended with exit status 78", "until": None},
         "it ended with exit status 78; the guard blocks it until an operator starts it"),
        ("process_failed", {"reason": "11 quick deaths in a row"},
         "11 quick deaths in a row; the guard does not start it again"),
        ("process_hung", {"reason": "no heartbeat for 70 s", "hangs": 2},
         "it hung: no heartbeat for 70 s (2 times within an hour)"),
        ("memory_exceeded", {"reason": "it uses 2100 MB of 2048"},
         "it uses 2100 MB of 2048; the guard restarts it"),
        ("operator_restart", {"user": "ana", "tty": "/dev/pts/3", "command": "restart api"},
         "ana on /dev/pts/3 typed `bisnesctl restart api`"),
        ("process_running", {"pid": "42", "serial": 7}, "it runs (pid 42)"),
        ("process_exited", {"reason": "port in use", "pid": "42"}, "it ended by itself: port in use"),
        ("session_status", {"session": "0128-2", "payload": {"status": "FAILED", "reason": "no network"}},
         "it is FAILED: no network"),
        ("bot_waiting", {"session": "0128-0", "payload": {"status": "waiting", "reason": "the token is refused"}},
         "it is waiting: the token is refused"),
        ("messages_unknown", {"company": "0128", "phoneIndex": 0, "messages": 1},
         "1 message may have been sent, without a status report since: `bisnesctl dead-letters resolve`"),
        ("provider.update", {"field": "account_update", "value": {"event": "DISABLED"}},
         "the provider reports account_update: event DISABLED"),
        ("supervisord_ended", {"seen_at": "?", "down_seconds": 510.0}, "supervisord ended without a stop"),
        ("command_interrupted", {"command": "restart all", "instances": ["api-0", "api-1", "meta"]},
         "`bisnesctl restart all` was interrupted before it had restarted 3 processes; type it again"),
        ("bot_owner_changed", {"from": "legacy", "to": "multiprocess", "by": "rollout 3 of ana"},
         "multiprocess serves it after legacy: rollout 3 of ana"),
        ("release_begun", {"to": "0.2.0", "reason": None}, "release begun: to 0.2.0"),
    ],
)  # fmt: skip
def test_an_event_is_a_sentence(kind: str, data: dict[str, object], expected: str) -> None:
    assert said(kind, **data) == expected


@given(st.sampled_from(["process_restarting", "process_blocked", "process_hung", "session_blocked", "operator_x",
                        "bot_ids_corrected", "messages_unknown", "supervisord_ended", "command_interrupted",
                        "anything"]),
       st.dictionaries(st.sampled_from(["reason", "until", "lived", "memory_mb", "hangs", "payload", "field", "value",
                                        "user", "command", "instances", "session", "seen_at", "down_seconds",
                                        "signal", "hung"]), JSON))  # fmt: skip
def test_any_data_makes_a_sentence_and_a_subject(kind: str, data: dict[str, object]) -> None:
    event = LoggedEvent(AT, "api", kind, "info", data)
    assert sentence(event)
    assert event.subject
    EventFilter(instances=("api-0",), bots=("0128-2",)).matches(event)
