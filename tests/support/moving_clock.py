"""A clock that a test moves, in place of the module `time`."""


class MovingClock:
    """Stands in for `time`; the test changes `now`."""

    now = 1000.0

    def monotonic(self) -> float:
        """Seconds, as the test says."""
        return self.now
