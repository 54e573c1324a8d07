"""The last step before a message leaves: its mark, and the look whether its claim still holds.

A worker that slept beyond its lease (a paused machine, SIGSTOP) may wake up after another one has taken over. So a
message leaves only within the lease of its claim, and a claim that is older is renewed first; the database refuses that
if the claim has passed to another worker. A marked message may have left, and nobody else sends it. An unmarked one has
not left, and the worker that takes over sends it.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from bisnesctl.host import process_times
from services.connector import Request
from services.database.connection import Connection
from services.http_client import InFlight
from services.message import Bot, Outgoing
from services.outbox.journal import Journal
from services.outbox.store import Outbox


class ClaimExpired(Exception):
    """The claim of the message may have passed to another worker."""


@dataclass(slots=True)
class InHand:
    """A claimed message and the slot of the journal that it occupies until its outcome is recorded."""

    message: Outgoing
    slot: int
    leaves_before: float  # by CLOCK_BOOTTIME, which counts the time in which the machine slept
    marked: bool  # whether the database says that it may have left
    steps: int = 0  # how often the connector was asked for the next step
    probed: bool = False  # whether it was checked that its number's outage is over
    expired: bool = False  # whether it did not leave, because its claim was too old
    bot: Bot | None = None  # as it was when the connector was last asked
    left_at: float = 0.0  # when its last request was sent, by time.monotonic()


class Departures:
    """Lets messages leave. One thread calls it."""

    def __init__(self, outbox: Outbox, journal: Journal, window: InFlight) -> None:
        self._outbox, self._journal, self._window = outbox, journal, window
        # The one process that serves a bot keeps its claims as long as it lives.
        self._lease_seconds = outbox.lease if outbox.bot_id is None else math.inf
        self._waiting: list[tuple[InHand, Request]] = []

    @property
    def are_waiting(self) -> bool:
        """Whether `mark` has something to do."""
        return bool(self._waiting)

    def in_hand(self, claimed: Iterable[Outgoing], slots: list[int], began: float) -> list[InHand]:
        """The messages with a slot each; `began`: by CLOCK_BOOTTIME, before they were claimed."""
        until = began + self._lease_seconds
        return [InHand(message, slots.pop(), until, not message.unmarked) for message in claimed]

    def begin(self, hand: InHand, request: Request) -> None:
        """Send the message now, or once `mark` has marked it.

        Raises `OSError` if the journal cannot be written: then it must not leave.
        """
        if hand.marked and not hand.expired:
            hand.left_at = time.monotonic()
            self._window.submit(hand, request, partial(self._check, hand))
        else:
            self._waiting.append((hand, request))

    def mark(self, connection: Connection) -> tuple[list[tuple[InHand, Request]], list[InHand]]:
        """Mark the messages that wait for it, all in one statement.

        Returns those that may leave now, which `begin` sends, and those whose claims were lost.
        """
        began = process_times.boottime()
        valid = self._outbox.mark(connection, [hand.message for hand, _ in self._waiting])
        waiting, self._waiting = self._waiting, []
        ready, lost = [], []
        for hand, request in waiting:
            message = hand.message
            if (message.bot_id, message.chat_id, message.fence) in valid:
                hand.marked, hand.expired, hand.leaves_before = True, False, began + self._lease_seconds
                ready.append((hand, request))
            else:
                lost.append(hand)
        return ready, lost

    def _check(self, hand: InHand) -> None:
        """Called right before the first byte leaves. Raises `ClaimExpired`, and `OSError` of the journal.

        It is marked first: a worker that takes over after the lease must see the mark of a message that left within it.
        """
        self._journal.mark(hand.slot, hand.message.id)
        if process_times.boottime() >= hand.leaves_before:
            self._journal.clear(hand.slot)
            hand.expired = True
            raise ClaimExpired("its claim is too old and must be renewed first")
