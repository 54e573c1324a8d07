"""The thread that ends overdue statements sleeps until the first deadline."""

import math
import threading
import time

from bisnesctl.database.statement_deadline import _OverdueStatements
from tests.support.waiting import HANG_SECONDS, wait_until


class Connection:
    """A connection whose statement never ends by itself."""

    def __init__(self) -> None:
        self.overdue_at: float | None = None
        self.aborted = threading.Event()

    def begin(self, overdue: _OverdueStatements, seconds: float) -> None:
        self.overdue_at = seconds + time.monotonic()
        if self.overdue_at < overdue.next_look:
            overdue.look_at(self.overdue_at)

    def abort(self) -> None:
        self.overdue_at = None
        self.aborted.set()


def watched(overdue: _OverdueStatements) -> Connection:
    connection = Connection()
    overdue.watch(connection)  # type: ignore[arg-type]
    return connection


def test_a_statement_with_an_earlier_deadline_is_ended_before_the_others() -> None:
    overdue = _OverdueStatements()
    patient, hasty = watched(overdue), watched(overdue)
    patient.begin(overdue, 3600)
    hasty.begin(overdue, 0.05)
    assert hasty.aborted.wait(HANG_SECONDS)
    assert not patient.aborted.is_set()
    patient.begin(overdue, 0.05)
    assert patient.aborted.wait(HANG_SECONDS)


def test_nothing_is_looked_for_while_no_statement_runs() -> None:
    overdue = _OverdueStatements()
    connection = watched(overdue)
    connection.begin(overdue, 0.05)
    assert connection.aborted.wait(HANG_SECONDS)
    wait_until(lambda: overdue.next_look == math.inf)


def test_a_statement_without_a_limit_is_never_ended() -> None:
    overdue = _OverdueStatements()
    endless, other = watched(overdue), watched(overdue)
    endless.begin(overdue, math.inf)
    other.begin(overdue, 0.05)
    assert other.aborted.wait(HANG_SECONDS)
    assert not endless.aborted.is_set()
