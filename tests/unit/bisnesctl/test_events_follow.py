"""`bisnesctl events --follow`: rows that are complete, each event once."""

import threading
import time

import pytest

from bisnesctl.cli import events
from bisnesctl.database.event_log import EventFilter, EventLog, LoggedEvent
from bisnesctl.health import event_history
from bisnesctl.processes.deployment import open_deployment
from tests.support.processes.servers import settings_in

#: The time at which everything happens, in seconds since the epoch.
NOW = 1_800_000_000.0


class Ended(Exception):
    """The end of the test's follow."""


@pytest.fixture
def follow(tmp_path, monkeypatch, capsys):
    """Follows through these looks, each with all events that there are by then; returns what was printed."""

    def run(*looks, as_json=False):
        wait = time.sleep
        left = [EventLog(sorted(each, key=lambda event: -event.at)) for each in looks]

        def sleep(seconds):
            if threading.current_thread() is not threading.main_thread():
                wait(seconds)  # a thread of other tests
            elif not left:
                raise Ended

        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(time, "sleep", sleep)
        monkeypatch.setattr(time, "time", lambda: NOW)  # however slow the machine is
        monkeypatch.setattr(event_history, "read", lambda deployment, wanted: left.pop(0))
        with pytest.raises(Ended):
            events._follow(open_deployment(settings_in(tmp_path)), EventFilter(), EventLog([]), as_json)
        return capsys.readouterr().out.splitlines()

    return run


def event(kind, at, **data):
    return LoggedEvent(NOW + at, "api", kind, "error", {"instance": "api-0", **data})


def test_an_end_and_its_decision_are_one_row_if_they_are_read_one_after_the_other(follow):
    end, decision = event("process_exited", -1.0), event("process_restarting", -0.5, reason="it was killed by SIGKILL")
    [row] = follow([end], [end, decision], [end, decision])
    assert "it was killed by SIGKILL; the guard" in row
    [row] = follow([decision], [end, decision])
    assert "it was killed by SIGKILL; the guard" in row


def test_an_end_without_a_decision_is_shown_once(follow):
    assert len(follow([event("process_exited", -60.0)])) == 1
    [row] = follow([event("process_exited", -1.0)])  # the command was ended before the decision
    assert "ended" in row or "exited" in row


def test_programs_get_each_event_at_once(follow):
    end, decision = event("process_exited", -1.0), event("process_restarting", -0.5, reason="x")
    assert len(follow([end], [end, decision], as_json=True)) == 2
