"""The messages that a worker has in hand: they leave, and their outcomes are gathered until they are recorded.

A worker that slept beyond its lease (a paused machine, SIGSTOP) may wake up after another one has taken over. So a
message leaves only within the lease of its claim, and a claim that is older is renewed first; the database refuses that
if the claim has passed to another worker. A marked message may have left, and nobody else sends it. An unmarked one has
not left, and the worker that takes over sends it. Marks are in the worker's `journal`.
"""

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from bisnesctl.host import process_times
from services.connector import Request
from services.database.connection import Connection
from services.http_exchange import InFlight
from services.message import Bot, Outcome, Outgoing, Sent, Status
from services.outbox.journal import Journal
from services.outbox.outcome_policy import Result
from services.outbox.store import Outbox

#: Seconds for which outcomes are gathered while other messages are in flight.
GATHER_SECONDS = 0.01
#: The same for a sent message behind which nothing waits in its chat.
LAST_GATHER_SECONDS = 0.05
#: Outcomes that are recorded with the next claim, although they are not due. To record fewer would make it wait.
RECORDED_ALONG = 4

log = structlog.get_logger()
_logger = logging.getLogger(__name__)  # asked first: the hot path spends nothing on lines that are not written


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

    def about(self) -> dict[str, Any]:
        """The fields of log lines that say which message it is."""
        message, bot = self.message, self.bot
        fields: dict[str, Any] = {
            "message_id": message.message_id, "request_id": message.request_id, "bot": message.bot_id,
        }  # fmt: skip
        if bot is not None:
            fields |= {"company": bot.company_id, "phone": bot.phone_index}
        return {name: value for name, value in fields.items() if value is not None}

    def log_attempt(self) -> None:
        """Log that the message is about to leave."""
        if _logger.isEnabledFor(logging.DEBUG):
            log.debug("message.sending", attempt=self.message.attempts + 1, step=self.steps, **self.about())

    def log_result(self, result: Result) -> None:
        """Log the recorded result of an attempt; that of a message that is sent without trouble at debug alone."""
        match result.status:
            case Status.SENT:
                if _logger.isEnabledFor(logging.DEBUG):
                    log.debug("message.sent", provider_id=result.provider_id, **self.about())
            case Status.FAILED:
                log.warning("message.failed", code=result.code, reason=result.error, **self.about())
            case Status.UNKNOWN:
                log.warning("message.unknown", code=result.code, reason=result.error, **self.about())
            case Status.WAITING:
                log.info("message.waiting", code=result.code, reason=result.error, **self.about())
            case None:
                if _logger.isEnabledFor(logging.DEBUG):
                    log.debug("message.postponed", retry_in_seconds=round(result.after, 1), **self.about())
            case _:
                log.info(
                    "message.retried",
                    code=result.code, reason=result.error, retry_in_seconds=round(result.after, 1), **self.about(),
                )  # fmt: skip


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
