"""Rates in one process: token buckets by name, for a bounded number of names."""

import time
from collections.abc import Hashable

#: Names that are counted at a time; the fullest buckets, which allow everything, are forgotten first.
MAX_NAMES = 10_000


class Rates:
    """Counts what each name does. Safe for threads: a bucket that two threads change at once is off by one at most."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # tokens, and when they were counted

    def take(self, name: Hashable, per_second: float, burst: float) -> float:
        """Do one thing; returns 0 if the rate allows it, otherwise the seconds after which it will.

        `burst`: how many are allowed at once after a pause.
        """
        if burst <= 0:
            return 3600.0
        tokens = self._tokens(name, per_second, burst)
        if tokens < 1.0:
            return (1.0 - tokens) / per_second
        self._buckets[name] = tokens - 1.0, time.monotonic()
        return 0.0

    def wait(self, name: Hashable, per_second: float, burst: float) -> float:
        """The seconds after which `take` allows one more; 0: now. Counts nothing."""
        tokens = self._tokens(name, per_second, burst)
        return max(0.0, (1.0 - tokens) / per_second)

    def _tokens(self, name: Hashable, per_second: float, burst: float) -> float:
        now = time.monotonic()
        found = self._buckets.get(name)
        if found is None:
            if len(self._buckets) >= MAX_NAMES:
                self._forget_half()
            return max(burst, 1.0)
        return min(max(burst, 1.0), found[0] + (now - found[1]) * per_second)

    def _forget_half(self) -> None:
        """Forget the names that have been silent longest."""
        by_age = sorted(self._buckets.copy().items(), key=lambda each: each[1][1])
        self._buckets = dict(by_age[len(by_age) // 2 :])
