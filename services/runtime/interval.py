"""Work that is done at regular intervals."""

import time
from collections.abc import Callable


class Interval:
    """The time between two times that some work is done."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """It begins now."""
        self._seconds, self._clock = seconds, clock
        self._began = clock()

    def is_over(self) -> bool:
        """Whether the work is due."""
        return self._clock() - self._began >= self._seconds

    def restart(self) -> None:
        """Begin again: the work was done, or is begun now."""
        self._began = self._clock()
