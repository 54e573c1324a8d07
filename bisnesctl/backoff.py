"""Exponential back-off: the pauses between retries.

Jitter is used where many callers can fail at the same moment: messages to a provider and events to a webhook. Without
it they would all return at the same moment. A process that waits for itself (a restart, the relaunch of a browser, the
next look at a page) uses no jitter, so that its times can be predicted from the log. Jitter only shortens a pause:
`longest_seconds` is never exceeded.
"""

import random
from dataclasses import dataclass

#: Steps after which a pause does not grow any more, so that no power overflows.
MAX_STEPS = 64


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that grow by a factor up to a limit."""

    first_seconds: float
    growth: float
    longest_seconds: float
    jitter: float = 0.0  #: The share by which a pause may be shorter, chosen at random each time.

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the failed attempt with this number, counted from 1."""
        pause = min(self.first_seconds * self.growth ** min(max(attempt - 1, 0), MAX_STEPS), self.longest_seconds)
        return pause * random.uniform(1 - self.jitter, 1) if self.jitter else pause  # noqa: S311 - no secret

    def sql(self, attempt: str) -> str:
        """SQL of the same seconds; `attempt` is SQL of the number of the failed attempt."""
        steps = f"LEAST(GREATEST({attempt} - 1, 0), {MAX_STEPS})"
        pause = f"LEAST({self.first_seconds} * power({self.growth}, {steps}), {self.longest_seconds})"
        return f"{pause} * (1 - {self.jitter} * random())" if self.jitter else pause
