"""supervisord's protocol for listeners."""

import io
import re

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.guard.listener import MAX_EVENT, events

HEADER = "ver:3.0 server:bisnes serial:{} pool:guard poolserial:1 eventname:{} len:{}\n"


def told(serial, name, body):
    return HEADER.format(serial, name, len(body)) + body


def test_events_are_read_one_after_the_other_and_each_is_acknowledged():
    said = told(7, "PROCESS_STATE_EXITED", "processname:api-0 groupname:api from_state:RUNNING expected:0 pid:12")
    said += told(8, "PROCESS_GROUP_ADDED", "groupname:wwebjs-session-0128-1") + told(9, "TICK_5", "")
    answers = io.StringIO()
    found = list(events(io.StringIO(said), answers))
    assert [(each.serial, each.name) for each in found] == [
        (7, "PROCESS_STATE_EXITED"), (8, "PROCESS_GROUP_ADDED"), (9, "TICK_5"),
    ]  # fmt: skip
    assert found[0].fields["processname"] == "api-0"
    assert answers.getvalue() == "READY\nRESULT 2\nOK" * 3 + "READY\n"


def read(said):
    """The events in an input, and the answers to it, which must be those of the protocol."""
    answers = io.StringIO()
    found = list(events(io.StringIO(said), answers))
    assert answers.getvalue() == "READY\nRESULT 2\nOK" * len(found) + "READY\n"
    return [(each.serial, each.fields.get("processname")) for each in found]


EXITED = told(8, "PROCESS_STATE_EXITED", "processname:api-0 groupname:api from_state:RUNNING expected:0 pid:12")


@pytest.mark.parametrize(
    "line",
    [
        "\n",
        "timestamp=2026-11-27T04:00:00Z level=info event=api.started port=3000\n",
        "ver:3.0 server:bisnes serial:seven pool:guard eventname:PROCESS_STATE_EXITED len:3\n",
        "ver:3.0 server:bisnes serial:7 pool:guard eventname:PROCESS_STATE_EXITED\n",
        "ver:3.0 server:bisnes serial:7 pool:guard eventname:PROCESS_STATE_EXITED len:-3\n",
        f"ver:3.0 server:bisnes serial:7 pool:guard eventname:PROCESS_STATE_EXITED len:{MAX_EVENT + 1}\n",
        "serial:7 len:3\n",
        "\ufffd\0\x1b[31m\n",
        "x" * 100_000 + "\n",
    ],
)
def test_a_line_that_is_no_header_is_skipped_logged_and_not_answered(line):
    with structlog.testing.capture_logs() as logged:
        assert read(line + EXITED + line * 3 + told(9, "TICK_5", "")) == [(8, "api-0"), (9, None)]
    assert [each["event"] for each in logged] == ["guard.input_skipped"] * 4
    assert max(len(each["line"]) for each in logged) <= 200


@pytest.mark.parametrize("end", range(1, len(EXITED)))
def test_an_event_that_is_cut_off_is_not_acknowledged(end):
    assert read(EXITED[:end]) == []


def test_the_event_after_a_damaged_one_is_read():
    damaged = EXITED.replace("len:", "len=")
    assert read(damaged + told(9, "PROCESS_STATE_RUNNING", "processname:api-1")) == [(9, "api-1")]


@given(st.lists(st.text(max_size=60)))
def test_anything_may_come_before_an_event(lines):
    noise = "".join(re.sub(r"[:\n\r]", "", line) + "\n" for line in lines)
    assert read(noise + EXITED) == [(8, "api-0")]
