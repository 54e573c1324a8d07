"""Notices a process that lives but serves nobody: its event loop does not turn, or no thread ends a request.

The heartbeat reports it, and the guard ends the process. If the guard does not, a process whose loop hangs ends itself.

Only time in which the watchdog itself runs counts. A process that was suspended, or a machine that is too busy for all
of its processes, is slow, not stuck.
"""

import asyncio
import faulthandler
import os
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import structlog

#: Seconds without a turn of the event loop after which it counts as stuck; a busy machine is slow, not stuck.
LOOP_STUCK_SECONDS = 60.0
#: Seconds without a turn of the event loop after which the process ends, because nobody has ended it.
LOOP_HUNG_SECONDS = 180.0
#: The exit status of such a process.
HUNG_STATUS = 70
#: Seconds in which a caller's requests wait and none is done; large files may be on their way to a slow store.
THREADS_STUCK_SECONDS = 180.0
#: Seconds between two looks.
LOOK_INTERVAL_SECONDS = 5.0

#: How many requests of a caller have been done, of those callers that have some waiting.
Progress = Callable[[], Mapping[Hashable, int]]

log = structlog.get_logger()


@dataclass(slots=True)
class Stall:
    """For how long there was work and no progress."""

    progress: int
    seconds: float = 0.0

    def observe(self, progress: int, elapsed: float) -> float:
        """Seconds without progress. `elapsed`: seconds since the last look; a long one says nothing about others."""
        self.seconds = 0.0 if progress != self.progress else self.seconds + min(elapsed, 2 * LOOK_INTERVAL_SECONDS)
        self.progress = progress
        return self.seconds


class Watchdog:
    """Watches the event loop on which it was started, from a thread of its own."""

    def __init__(
        self,
        progress: Progress = dict,
        threads_stuck_seconds: float = THREADS_STUCK_SECONDS,
        loop_hung_seconds: float = LOOP_HUNG_SECONDS,
    ) -> None:
        """`progress`: of the requests that wait for threads."""
        self._progress, self._threads_stuck_seconds = progress, threads_stuck_seconds
        self._loop_hung_seconds = loop_hung_seconds
        self._turns = 0
        self._loop_stall = Stall(0)
        self._stalls: dict[Hashable, Stall] = {}
        self._stopped = threading.Event()
        #: The reason why the process serves nobody; None if it serves.
        self.fault: str | None = None

    def start(self) -> None:
        """Watch the running event loop from now on."""
        self._turn(asyncio.get_running_loop())
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self.fault = None

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turns += 1
        if not self._stopped.is_set():
            loop.call_later(LOOK_INTERVAL_SECONDS / 2, self._turn, loop)

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(LOOK_INTERVAL_SECONDS):
            now = time.monotonic()
            found = self.look(now - last)
            if found and not self.fault:
                faulthandler.dump_traceback()  # to the log of errors, before the guard ends the process
            self.fault = found
            if self._loop_stall.seconds >= self._loop_hung_seconds:
                log.error("http.hung", reason=found)
                os._exit(HUNG_STATUS)
            last = now

    def look(self, elapsed: float) -> str | None:
        """The reason why the process serves nobody, `elapsed` seconds after the last look; None if it serves."""
        stalled = self._loop_stall.observe(self._turns, elapsed)
        if stalled >= min(LOOP_STUCK_SECONDS, self._loop_hung_seconds):
            return f"the event loop has not turned for {stalled:.0f} s"
        progress = self._progress()
        self._stalls = {name: self._stalls.get(name) or Stall(done) for name, done in progress.items()}
        worst = max((self._stalls[name].observe(done, elapsed) for name, done in progress.items()), default=0.0)
        if worst >= self._threads_stuck_seconds:
            return f"requests wait, and no thread has ended one for {worst:.0f} s"
        return None
