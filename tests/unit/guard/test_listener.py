"""supervisord's protocol for listeners."""

import io

from bisnesctl.guard.listener import events

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
