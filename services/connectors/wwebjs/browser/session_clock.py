"""A clock that counts only the time in which a session could run: on a busy machine a slow browser is slow, not dead.

Seconds in which the main threads of the session's processes wait for a processor count an eighth, a pause of the whole
process or machine does not count. All deadlines of a browser are told by it.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterable

from bisnesctl.host import process_times
from services.connectors.wwebjs.browser import process_tree

#: Seconds between two looks at how long the processes have waited.
TICK_SECONDS = 1.0
#: Looks after which the processes are listed again.
RELIST_TICKS = 5
#: How slow the clock may become: each deadline is at most so many times as long.
SLOWEST_RATE = 1 / 8
#: Seconds of silence of the clock's own thread that count at most: it did not run, so the session may not have either.
_LONGEST_TICK_SECONDS = 3.0


def rate(elapsed: float, waited: float) -> float:
    """How fast the clock goes after `elapsed` seconds in which the processes together waited for so many."""
    if elapsed <= 0:
        return 1.0
    return max(1.0 - max(waited, 0.0) / elapsed, SLOWEST_RATE)


class SessionClock:
    """Until `start` it is the monotonic clock. May be used by any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._at, self._read, self._rate = monotonic(), 0.0, 1.0
        self._longest_tick = float("inf")
        self._pids: list[int] = []
        self._waits: dict[int, float] = {}

    def start(self) -> None:
        """Watch this process and all below it from now on."""
        self._longest_tick = _LONGEST_TICK_SECONDS
        threading.Thread(target=self._tick_on, name="session-clock", daemon=True).start()

    def now(self) -> float:
        """Seconds; it never goes back."""
        with self._lock:
            return self._read + min(self._monotonic() - self._at, self._longest_tick) * self._rate

    def stretched(self, seconds: float) -> float:
        """Seconds of a wall's clock in which so many of this one pass, as it goes now, by a power of two."""
        return seconds * 2.0 ** round(math.log2(1 / self._rate))

    def advance(self, waited: float) -> None:
        """Since the last time the processes together have waited for so many seconds; it goes accordingly from now."""
        with self._lock:
            now = self._monotonic()
            elapsed = now - self._at
            self._read += min(elapsed, self._longest_tick) * self._rate  # as `now` has told already
            self._rate = rate(elapsed, waited)
            self._at = now

    def _tick_on(self) -> None:
        ticks = 0
        while True:
            if ticks % RELIST_TICKS == 0:
                self._pids = [os.getpid(), *process_tree.descendants(os.getpid())]
            ticks += 1
            self.advance(self._waited_since(self._pids))
            time.sleep(TICK_SECONDS)

    def _waited_since(self, pids: Iterable[int]) -> float:
        """Seconds for which these have waited since the last time; those that are new, since they started."""
        before, self._waits = self._waits, {pid: process_times.main_thread_waited(pid) for pid in pids}
        return sum(waited - before.get(pid, 0.0) for pid, waited in self._waits.items())


#: The clock of this process.
clock = SessionClock()
