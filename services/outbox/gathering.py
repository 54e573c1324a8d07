"""Outcomes that wait to be recorded: those of a moment share one transaction."""

import math
import time

from services.message import Outcome, Sent
from services.outbox.departures import InHand

#: Seconds for which outcomes are gathered while other messages are in flight.
GATHER_SECONDS = 0.01
#: Seconds for which a sent message waits behind which nothing waits in its chat: the next announced message is claimed
#: in the same transaction.
LAST_GATHER_SECONDS = 0.03

Gathered = tuple[InHand, Outcome | None]


class Gathering:
    """The outcomes that are not recorded yet."""

    def __init__(self, may_wait: bool) -> None:
        """`may_wait`: whether the next message ends the wait, so that outcomes can wait for it."""
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
        self._due, self._is_urgent = (-math.inf, True) if self._gathered else (math.inf, False)
        return taken

    def put_back(self, gathered: list[Gathered]) -> None:
        """Gather again what could not be recorded."""
        self._gathered[:0] = gathered
        if self._gathered:
            self._due, self._is_urgent = -math.inf, True

    def is_due(self, now: float, in_flight: int) -> bool:
        """Whether to record them now."""
        return bool(self._gathered) and (now >= self._due or (self._is_urgent and not in_flight))

    def seconds_left(self, now: float) -> float:
        """Seconds until they are due by themselves."""
        return self._due - now
