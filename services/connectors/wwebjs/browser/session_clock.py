"""A clock that counts only the time in which a session could run: on a busy machine a slow browser is not a dead one.

Time in which the main threads of the session's processes wait for a CPU counts an eighth. A pause of the whole process
or machine does not count. All deadlines of a browser use this clock.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterable

from bisnesctl.host import process_times
from services.connectors.wwebjs.browser import process_tree

#: The pause between two measurements of how long the processes have waited.
TICK_SECONDS = 1.0
#: The number of measurements after which the processes are listed again.
RELIST_TICKS = 5
#: The lowest rate of the clock; it makes a deadline eight times as long.
SLOWEST_RATE = 1 / 8
#: The longest time between two measurements that counts: if this thread did not run, the session may not have either.
_LONGEST_TICK_SECONDS = 3.0


def rate(elapsed: float, waited: float) -> float:
    """The rate of the clock after `elapsed` seconds in which the processes together waited for `waited` seconds."""
    if elapsed <= 0:
        return 1.0
    return max(1.0 - max(waited, 0.0) / elapsed, SLOWEST_RATE)


class SessionClock:
    """Until `start` it is the monotonic clock. Safe for any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._measured_at = monotonic()
        self._reading = 0.0  # at that time
        self._rate = 1.0
        self._longest_tick = float("inf")
        self._pids: list[int] = []
        self._waits: dict[int, float] = {}

    def start(self) -> None:
        """Measure this process and its descendants from now on."""
        self._longest_tick = _LONGEST_TICK_SECONDS
        threading.Thread(target=self._tick_on, name="session-clock", daemon=True).start()

    def now(self) -> float:
        """Seconds; never decreases."""
        with self._lock:
            return self._reading + min(self._monotonic() - self._measured_at, self._longest_tick) * self._rate

    def stretched(self, seconds: float) -> float:
        """Seconds of real time in which `seconds` of this clock pass at its current rate, rounded to a power of two."""
        return seconds * 2.0 ** round(math.log2(1 / self._rate))

    def advance(self, waited: float) -> None:
        """Set the rate: since the last call, the processes together have waited for `waited` seconds."""
        with self._lock:
            now = self._monotonic()
            elapsed = now - self._measured_at
            self._reading += min(elapsed, self._longest_tick) * self._rate  # as `now` has returned already
            self._rate = rate(elapsed, waited)
            self._measured_at = now

    def _tick_on(self) -> None:
        ticks = 0
        while True:
            if ticks % RELIST_TICKS == 0:
                self._pids = [os.getpid(), *process_tree.descendants(os.getpid())]
            ticks += 1
            self.advance(self._waited_since(self._pids))
            time.sleep(TICK_SECONDS)

    def _waited_since(self, pids: Iterable[int]) -> float:
        """Seconds for which these processes have waited since the last call; new processes, since their start."""
        before, self._waits = self._waits, {pid: process_times.main_thread_waited(pid) for pid in pids}
        return sum(waited - before.get(pid, 0.0) for pid, waited in self._waits.items())


#: The clock of this process.
clock = SessionClock()
