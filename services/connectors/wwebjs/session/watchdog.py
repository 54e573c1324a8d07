"""The watchdog over the thread that owns the browser: if that thread hangs, the watchdog ends the process.

The heartbeat has a thread of its own, which would continue, so the heartbeat also reports a hang. The guard restarts
the process, and records the reason from the last heartbeat.
"""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from services.connectors.wwebjs.browser import process_tree
from services.connectors.wwebjs.browser.session_clock import SessionClock

#: The pause between two looks at the progress.
TICK_SECONDS = 1.0
#: The fraction of its limit after which a step is reported as one that does not end.
REPORTED_FRACTION = 0.5

#: Seconds for which the thread of a process that is ended begins no other step; the process ends much sooner.
ENDING_SECONDS = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the thread."""

    name: str
    began: float  # in seconds of the session's clock
    limit: float  # seconds after which it counts as hung


class Progress:
    """The steps of the thread that creates this object. Steps of other threads are ignored."""

    def __init__(self, clock: SessionClock, margin: float) -> None:
        """`margin`: seconds that a step may take beyond twice its own deadline."""
        self._clock = clock
        self._margin = margin
        self._thread = threading.get_ident()
        self._ended = threading.Event()
        self.step = Step("starting", clock.now(), margin)

    def begin(self, name: str, deadline: float = 0.0) -> None:
        """Another step begins. `deadline`: the step's own limit in seconds. After `end` it does not begin."""
        if threading.get_ident() == self._thread:
            if self._ended.is_set():
                time.sleep(ENDING_SECONDS)
            self.step = Step(name, self._clock.now(), self._margin + 2 * deadline)

    def end(self) -> None:
        """The thread begins no more steps: its process ends, and the browser's end is not what went wrong."""
        self._ended.set()

    def excuse(self) -> None:
        """The time that the current step has taken so far does not count."""
        step = self.step
        excused = replace(step, began=self._clock.now())
        if self.step is step:
            self.step = excused

    @property
    def age(self) -> float:
        """Seconds since the step began."""
        return self._clock.now() - self.step.began


class Watchdog:
    """Checks the progress, on a thread of its own."""

    def __init__(
        self, progress: Progress, excused: Callable[[], bool], show: Callable[[str | None], None],
        end: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`excused`: whether the thread may be waiting for something other than the browser, such as the database.

        `show`: called with the reason if the thread may hang, and with None otherwise. `end`: called with the reason if
        the process must end.
        """
        self._progress = progress
        self._excused = excused
        self._show = show
        self._end = end
        self._stopping = threading.Event()

    def start(self) -> None:
        """Check the progress from now on."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """The process ends normally."""
        self._stopping.set()

    def look(self) -> None:
        """Check the current step."""
        if self._excused():
            self._progress.excuse()
        step, age = self._progress.step, self._progress.age
        if age < REPORTED_FRACTION * step.limit:
            self._show(None)
            return
        reason = f"its browser's thread has not moved for {age:.0f} s: {step.name}"
        self._show(reason)
        if age >= step.limit and step is self._progress.step:
            self._progress.end()
            self._end(reason)

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            self.look()


def end_process(reason: str, status: int, report: Callable[[], None]) -> None:
    """Log the stacks of all threads, end the browser and then this process, even if other threads hang."""
    killer = threading.Timer(2 * process_tree.KILL_TIMEOUT_SECONDS, os._exit, (status,))
    killer.daemon = True
    killer.start()
    try:
        log.error("session.hung", reason=reason)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        report()
        process_tree.kill_below(os.getpid())
    finally:
        os._exit(status)
