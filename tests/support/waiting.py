"""Waiting for a condition, with deadlines that stretch if the machine is busy."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Time limit of calls: one that takes longer hangs. No test measures with it.
HANG_SECONDS = 60.0
#: Processor time of one measurement of the machine's speed.
PROBE_SECONDS = 0.003
#: Interval of the measurements.
PROBE_INTERVAL_SECONDS = 1.0
#: The longest pause between two looks at a condition, unless a test wants a longer one.
LONGEST_PAUSE_SECONDS = 2.0


class Patience:
    """A time limit in seconds of a machine that is not busy.

    On a busy machine we get only a part of a processor, and a second counts for that part: with a third of a processor,
    10 seconds of patience last 30 seconds by the clock.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._last = self._probed = time.monotonic()
        self._share = 1.0

    def is_over(self) -> bool:
        """Whether the time is used up. Has to be called repeatedly while waiting."""
        now = time.monotonic()
        if now - self._probed >= PROBE_INTERVAL_SECONDS:
            self._probed, self._share = now, processor_share()
        self._left -= (now - self._last) * self._share
        self._last = now
        return self._left < 0


def processor_share() -> float:
    """The part of a processor that this thread gets now: from above 0 to 1."""
    wall, processor = time.monotonic(), time.thread_time()
    while (used := time.thread_time() - processor) < PROBE_SECONDS:
        pass
    return min(1.0, used / max(time.monotonic() - wall, used))


def wait_until(
    condition: Callable[[], T], seconds: float = 60.0, what: Callable[[], str] = lambda: "", pause: float = 0.05
) -> T:
    """Wait until the condition holds, and return its value. Fails with the text of `what()` if the patience is over.

    `pause`: seconds between two looks; more if a look takes longer, as a command does, so that looks leave the
    processor to what they wait for. With 0 there is none.
    """
    patience = Patience(seconds)
    while True:
        began = time.monotonic()
        if found := condition():
            return found
        assert not patience.is_over(), what()
        time.sleep(pause and max(pause, min(time.monotonic() - began, LONGEST_PAUSE_SECONDS)))
