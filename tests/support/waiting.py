"""Waiting for a condition, with deadlines that stretch when the machine is busy."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds of processor time for one measurement of the machine's speed.
PROBE_SECONDS = 0.003
#: Seconds between two measurements.
PROBE_INTERVAL_SECONDS = 1.0


class Patience:
    """A time limit in seconds of a machine that is not busy.

    Other programs may leave us a part of the processor only. A second then counts for that part: with a third of a
    processor, 10 seconds of patience last 30 seconds by the clock.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._last = self._probed = time.monotonic()
        self._share = 1.0

    def is_over(self) -> bool:
        """Whether the time is used up. To be called again and again while waiting."""
        now = time.monotonic()
        if now - self._probed >= PROBE_INTERVAL_SECONDS:
            self._probed, self._share = now, processor_share()
        self._left -= (now - self._last) * self._share
        self._last = now
        return self._left < 0


def processor_share() -> float:
    """The part of a processor that this thread gets just now, from above 0 to 1."""
    wall, processor = time.monotonic(), time.thread_time()
    while (used := time.thread_time() - processor) < PROBE_SECONDS:
        pass
    return min(1.0, used / max(time.monotonic() - wall, used))


def wait_until(
    condition: Callable[[], T], seconds: float = 60.0, what: Callable[[], str] = lambda: "", pause: float = 0.05
) -> T:
    """Wait until the condition holds, and return its value. Fails with `what()` when the patience is over."""
    patience = Patience(seconds)
    while not (found := condition()):
        assert not patience.is_over(), what()
        time.sleep(pause)
    return found
