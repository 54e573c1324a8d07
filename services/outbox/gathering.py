"""Outcomes that wait to be recorded: those of a moment share one transaction."""

import math
import time

from services.message import Outcome, Sent
from services.outbox.departures import InHand

#: Seconds for which outcomes are gathered while other messages are in flight.
GATHER_SECONDS = 0.01
#: The same for a sent message behind which nothing waits in its chat.
LAST_GATHER_SECONDS = 0.05
#: Outcomes that are recorded with the next claim, although they are not due. To record fewer would make it wait.
RECORDED_ALONG = 4

Gathered = tuple[InHand, Outcome | None]


class Gathering:
    """The outcomes that are not recorded yet."""

    def __init__(self, may_wait: bool) -> None:
        """`may_wait`: whether outcomes may wait although nothing is in flight."""
        self._may_wait = may_wait
        self._gathered: list[Gathered] = []
        self._due = math.inf  # in monotonic seconds
        self._is_urgent = False  # whether one of them is recorded as soon as nothing is in flight

    def __len__(self) -> int:
        return len(self._gathered)

    def add(self, hand: InHand, outcome: Outcome | None) -> None:
        """The outcome of a message in hand; None: no attempt was made."""
        waits = self._may_wait and isinstance(outcome, Sent) and not hand.message.is_followed
        self._is_urgent |= not waits
        self._due = min(self._due, time.monotonic() + (LAST_GATHER_SECONDS if waits else GATHER_SECONDS))
        self._gathered.append((hand, outcome))

    def take(self, count: int) -> list[Gathered]:
        """The first ones, up to a count; the others become due."""
        taken, self._gathered = self._gathered[:count], self._gathered[count:]
        self._due, self._is_urgent = math.inf, False
        self.hurry()
        return taken

    def put_back(self, gathered: list[Gathered]) -> None:
        """Gather again what could not be recorded."""
        self._gathered[:0] = gathered
        self.hurry()

    def hurry(self) -> None:
        """Record them at once."""
        if self._gathered:
            self._due, self._is_urgent = -math.inf, True

    def is_due(self, now: float, in_flight: int) -> bool:
        """Whether to record them now."""
        return bool(self._gathered) and (now >= self._due or (self._is_urgent and not in_flight))

    def go_along(self, now: float, in_flight: int) -> bool:
        """Whether to record them with a claim that is made now."""
        return not self._may_wait or len(self._gathered) >= RECORDED_ALONG or self.is_due(now, in_flight)

    def seconds_left(self, now: float) -> float:
        """Seconds until they are due by themselves."""
        return self._due - now
