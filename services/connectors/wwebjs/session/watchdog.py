"""Sees to it that the thread that owns the browser moves; one that does not is ended with its process.

The heartbeat comes from a thread of its own and would go on, so it tells how far the owner is as well. The guard starts
another process, and notes the reason that the last heartbeat gives.
"""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from services.connectors.wwebjs.browser import process_tree
from services.connectors.wwebjs.browser.session_clock import SessionClock

#: Seconds between two looks.
TICK_SECONDS = 1.0
#: Parts of its limit after which a step is shown as one that does not end.
SHOWN_PART = 0.5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Step:
    """What the owner is at."""

    name: str
    began: float  # seconds of the session's clock
    limit: float  # seconds after which it hangs


class Progress:
    """The steps of the owner: the thread that made this object. What other threads report is not counted."""

    def __init__(self, clock: SessionClock, margin: float) -> None:
        """`margin`: seconds that a step may take beyond twice its own deadline."""
        self._clock, self._margin = clock, margin
        self._owner = threading.get_ident()
        self.step = Step("starting", clock.now(), margin)

    def begin(self, name: str, deadline: float = 0.0) -> None:
        """Another step begins, which has a deadline of its own of so many seconds."""
        if threading.get_ident() == self._owner:
            self.step = Step(name, self._clock.now(), self._margin + 2 * deadline)

    def excuse(self) -> None:
        """What the present step has taken so far does not count."""
        step = self.step
        excused = replace(step, began=self._clock.now())
        if self.step is step:
            self.step = excused

    @property
    def age(self) -> float:
        """Seconds since the step began."""
        return self._clock.now() - self.step.began


class Watchdog:
    """Looks at the owner's progress on a thread of its own."""

    def __init__(
        self, progress: Progress, excused: Callable[[], bool], show: Callable[[str | None], None],
        end: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`excused`: whether the owner may wait now for something that is no browser, as for the database.

        `show`: told why the process is not well, or None; `end`: told why it is to be ended.
        """
        self._progress, self._excused, self._show, self._end = progress, excused, show, end
        self._stopping = threading.Event()

    def start(self) -> None:
        """Look from now on."""
        threading.Thread(target=self._look_on, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """The process ends as it should."""
        self._stopping.set()

    def look(self) -> None:
        """Judge the present step."""
        if self._excused():
            self._progress.excuse()
        step, age = self._progress.step, self._progress.age
        if age < SHOWN_PART * step.limit:
            self._show(None)
            return
        reason = f"its browser's thread has not moved for {age:.0f} s: {step.name}"
        self._show(reason)
        if age >= step.limit and step is self._progress.step:
            self._end(reason)

    def _look_on(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            self.look()


def end_process(reason: str, status: int, tell: Callable[[], None]) -> None:
    """Log where every thread is, end the browser and then this process, whatever the others do."""
    killer = threading.Timer(2 * process_tree.KILL_TIMEOUT_SECONDS, os._exit, (status,))
    killer.daemon = True
    killer.start()
    try:
        log.error("session.hung", reason=reason)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        tell()
        process_tree.kill_below(os.getpid())
    finally:
        os._exit(status)
