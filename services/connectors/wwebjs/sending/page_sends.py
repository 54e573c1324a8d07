"""Messages on their way through the page of WhatsApp Web, and the rule by which each of them leaves once.

Before the page gets a message, a key (its WhatsApp id) is generated and stored. If the outcome is uncertain afterwards
(a timeout, a lost page, a dead process), we look up that key in the message's chat, and `judge` decides.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from random import uniform
from typing import Any, Protocol

import structlog

from bisnesctl.backoff import Backoff
from services.connector import LocalFile, PageRequest, Refusal
from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, Page, PageLost
from services.connectors.wwebjs.translation import errors
from services.connectors.wwebjs.translation.connector import KEYED_KINDS
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.message import Outcome, Outgoing, Rejected, Retry, Scope, Sent, Unavailable, Unknown

#: Maximum number of messages in hand in a session; each is of another chat.
MAX_IN_FLIGHT = 16
#: Limit for a call that sends.
SEND_TIMEOUT_SECONDS = 30.0
#: The addition to that limit for each byte of a file: the browser reads the file and makes a preview.
SEND_TIMEOUT_SECONDS_PER_BYTE = 1 / 2_000_000
#: How long WhatsApp may take to acknowledge a message.
ACK_TIMEOUT_SECONDS = 60.0
#: The addition to that time for each byte of a file.
ACK_TIMEOUT_SECONDS_PER_BYTE = 1 / 50_000
#: The pauses between two looks for a message's acknowledgement.
LOOK_BACKOFF = Backoff(first_seconds=0.03, growth=1.6, longest_seconds=1.0)
#: How often a message may be handed to the page, or the page be reloaded for it, until the message counts as the cause.
MAX_HANDOVERS = 5
#: Attempts of a message with which the page is lost again and again, while other messages succeed.
MAX_ATTEMPTS_ON_LOST_PAGES = 20
#: Consecutive messages without WhatsApp's acknowledgement that make the page count as lost. The number doubles with
#: each new page that does not help.
MAX_UNACKNOWLEDGED = 3
#: The code of messages that WhatsApp did not acknowledge in time.
NOT_ACKNOWLEDGED = "not_acknowledged"

log = structlog.get_logger()


# --- The rule ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sighting:
    """The page's knowledge of a key."""

    ack: int | None  # WhatsApp's acknowledgement: < 0 failed, 0 none yet, 1 sent, 2 delivered …; None: no such message
    running: bool = False  # whether a call that sends under this key has not ended


@dataclass(frozen=True, slots=True)
class Handover:
    """A message that was, or may have been, handed to the page."""

    key: str
    until: float  # when to stop waiting for WhatsApp
    refusal: Refusal | None = None  # the error with which the page's function ended


class Step(Enum):
    """The next step for a message whose outcome is uncertain."""

    HAND_OVER = "hand it to the page under the same key: it is certainly not there"
    LOOK_AGAIN = "look up its key again, a little later"
    RENEW_PAGE = "reload the page, which ends a call that neither returns nor has any effect"


def judge(handover: Handover, seen: Sighting, now: float) -> Outcome | Step:
    """The outcome of a message, or the next step. `now` and `handover.until` are seconds of the same clock."""
    if seen.ack is not None and seen.ack > 0:
        return Sent(handover.key)
    if seen.ack is not None and seen.ack < 0:
        return Retry("not_sent", "WhatsApp says that it could not send the message")
    if seen.ack is None and not seen.running:
        return handover.refusal or Step.HAND_OVER
    if now < handover.until:
        return Step.LOOK_AGAIN
    if seen.ack is None:
        return Step.RENEW_PAGE
    return Unknown(
        "WhatsApp has the message in its own queue and sends it when it can; its report decides", code=NOT_ACKNOWLEDGED
    )


# --- One message ------------------------------------------------------------------------------------------------------


class SendGuard(Protocol):
    """The checks before a message leaves, and its key in the outbox.

    Both methods raise `DatabaseUnavailable` and `DatabaseError`.
    """

    def admit(self, page: Page, message: Outgoing) -> str | Refusal:
        """The new key under which a message of a keyed kind may leave now, or why it must not.

        If it may, it is counted, and its key is committed before this returns: only then may the page get the message.
        Raises like `Page.call` too, except for `CallFailed`.
        """

    def reserve(self, message: Outgoing, key: str | None) -> None:
        """Store another key of a message that was admitted; None: it was certainly not sent under any key."""


class PageSend:
    """One message. Everything but `ticket` and `due` belongs to the thread of the browser loop."""

    def __init__(
        self, ticket: Any, request: PageRequest, guard: SendGuard, clock: Callable[[], float], handovers: int
    ) -> None:
        """`handovers`: how often this process handed the message to the page before. `clock` returns seconds."""
        self.ticket = ticket
        self.handovers = handovers
        self.due = 0.0  # the time of its next step
        self.message = request.message
        self._calls = request.calls
        self._file = request.file
        self._guard = guard
        self._clock = clock
        self._looks = 0
        earlier_key = request.message.provider_id
        self._handover = None if earlier_key is None else Handover(earlier_key, self._ack_deadline())

    @property
    def begun(self) -> bool:
        """Whether the page may have the message already."""
        return self._handover is not None

    def go_on(self, page: Page) -> Outcome | None:
        """Take the next step; returns the outcome once there is one.

        Raises `PageLost` and `CallTimeout`, after which it may be called again, and the errors of the guard.
        """
        if self.message.kind not in KEYED_KINDS:
            return self._act(page)
        outcome = self._begin(page) if self._handover is None else self._look(page, self._handover)
        if isinstance(outcome, Retry | Unavailable | Rejected) and self.begun:
            with contextlib.suppress(DatabaseUnavailable, DatabaseError):  # otherwise it is looked up once too often
                self._guard.reserve(self.message, None)
        return outcome

    def interrupted(self, error: Exception) -> Refusal | None:
        """The outcome after `go_on` raised `PageLost` or `CallTimeout`; None if the chat must be asked first."""
        self.due = 0.0
        if self._handover is not None:
            return None
        reason = f"the page was lost before the message left: {error}"
        if self.message.kind not in KEYED_KINDS:  # the call may have had its effect: the next attempt must know
            return Retry("page", reason, after=1.0, attempts=MAX_ATTEMPTS_ON_LOST_PAGES)
        return Unavailable(
            "page", reason, chargeable=True, attempts=MAX_ATTEMPTS_ON_LOST_PAGES, scope=Scope.CHAT
        )  # fmt: skip

    def release(self) -> None:
        """Release its file."""
        if self._file is not None:
            self._file.release()

    def _begin(self, page: Page) -> Outcome | None:
        admitted = self._guard.admit(page, self.message)
        return self._hand_over(page, admitted) if isinstance(admitted, str) else admitted

    def _hand_over(self, page: Page, key: str) -> Outcome | None:
        if self.handovers >= MAX_HANDOVERS:
            reason = f"the page broke down {MAX_HANDOVERS} times while it was to send this message"
            return Rejected("interrupted", reason)
        self.handovers += 1
        self._handover = Handover(key, self._ack_deadline())
        try:
            answer = self._send(page, key)
        except CallFailed as failed:
            self._handover = replace(self._handover, refusal=errors.classify(failed.code, failed.message))
        else:
            self._adopt_key(answer)
        self._looks = 0
        self._look_later()
        return None

    def _send(self, page: Page, key: str) -> Any:
        call = self._calls[-1]
        *arguments, options = call.arguments
        options = {"messageId": key, **options}
        if self._file is None:
            return page.call(call.function, *arguments, options, deadline=SEND_TIMEOUT_SECONDS)
        (chat,) = arguments
        deadline = SEND_TIMEOUT_SECONDS + _size(self._file) * SEND_TIMEOUT_SECONDS_PER_BYTE
        return page.send_file(chat, self._file.path, options, deadline=deadline)

    def _adopt_key(self, answer: Any) -> None:
        """Adopt the key in the page's answer: it is another one if the chat meanwhile has a hidden number."""
        found = answer.get("id") if isinstance(answer, dict) else None
        if isinstance(found, str) and self._handover is not None and found != self._handover.key:
            self._handover = replace(self._handover, key=found)
            self._guard.reserve(self.message, found)

    def _look(self, page: Page, handover: Handover) -> Outcome | None:
        verdict = judge(handover, _sighting(page, handover.key), self._clock())
        match verdict:
            case Step.HAND_OVER:
                return self._hand_over(page, handover.key)
            case Step.LOOK_AGAIN:
                self._look_later()
                return None
            case Step.RENEW_PAGE:
                self.handovers += 1
                if self.handovers > MAX_HANDOVERS:
                    return Unknown("the page does not say whether the message was sent", code=NOT_ACKNOWLEDGED)
                raise PageLost("a call that sends a message does not end")
        return verdict

    def _look_later(self) -> None:
        self._looks += 1
        self.due = self._clock() + LOOK_BACKOFF.pause(self._looks)

    def _act(self, page: Page) -> Outcome:
        answer: Any = None
        try:
            for call in self._calls:
                answer = page.call(call.function, *call.arguments, deadline=SEND_TIMEOUT_SECONDS)
        except CallFailed as failed:
            if failed.code == "msg_not_found" and self.message.kind == "delete" and self.message.attempts:
                return errors.outcome_of_call(self.message, {"isRevoked": True})  # an earlier attempt deleted it
            return errors.classify(failed.code, failed.message)
        return errors.outcome_of_call(self.message, answer)

    def _ack_deadline(self) -> float:
        bytes_of_file = _size(self._file) if self._file else 0
        return self._clock() + ACK_TIMEOUT_SECONDS + bytes_of_file * ACK_TIMEOUT_SECONDS_PER_BYTE


def _sighting(page: Page, key: str) -> Sighting:
    try:
        seen = page.call("__wa.sight", key)
    except CallFailed:  # the page is not ready, so it cannot know
        return Sighting(None, running=True)
    return Sighting(seen["ack"], seen["running"])


def _size(file: LocalFile) -> int:
    return file.path.stat().st_size


# --- All messages of a session ----------------------------------------------------------------------------------------

#: A ticket and the outcome of its message. None: it was not handed over, or its outcome must be looked up later.
Done = tuple[Any, Outcome | None]


class PageSends:
    """The messages in hand. The delivery's thread calls `submit` and `poll`, the browser loop `turn` and `paused`.

    It is a `services.http_client.InFlight` for the delivery and a `browser_loop.PageTask` for the loop.
    """

    def __init__(
        self, guard: SendGuard, rate: float, size: int = MAX_IN_FLIGHT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rate`: messages a second in the long run. The pauses between messages vary as a person's do."""
        self.size = size
        self.in_flight = 0
        self._guard = guard
        self._rate = rate
        self._clock = clock
        self._changed = threading.Condition()
        self._submitted: list[PageSend] = []
        self._done: list[Done] = []
        self._interrupted = False
        self._paused = False
        self._sends: list[PageSend] = []  # only the browser loop uses it
        self._handovers: dict[int, int] = {}  # of messages that went back to the queue, by outbox id
        self._unacknowledged = 0  # consecutive messages
        self._max_unacknowledged = MAX_UNACKNOWLEDGED
        self._next = 0.0  # when the next message may begin

    def submit(self, ticket: Any, request: PageRequest, leaving: Callable[[], None]) -> None:
        """Pass a message to the browser loop; while that is paused, the message goes back to the queue at once.

        `leaving` is not called: the reserved key, not a journal, tells whether the message may have left.
        """
        handovers = self._handovers.pop(request.message.id, 0)
        send = PageSend(ticket, request, self._guard, self._clock, handovers)
        with self._changed:
            self.in_flight += 1
            if not self._paused:
                self._submitted.append(send)
                return
        self._give_back(send)

    def poll(self, seconds: float) -> Sequence[Done]:
        """Wait up to `seconds` for messages with an outcome, and return them."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or self._interrupted, seconds)
            self._interrupted = False
            done, self._done = self._done, []
            self.in_flight -= len(done)
        return done

    def interrupt(self) -> None:
        """End the current wait, or the next one. Safe for any thread."""
        with self._changed:
            self._interrupted = True
            self._changed.notify()

    def close(self) -> None:
        """Release the files of the messages in hand."""
        self.paused()

    def turn(self, page: Page) -> bool:
        """Take one step for one message; returns whether there was anything to do.

        Raises `PageLost` and `CallTimeout`; the messages in hand are then looked up in the next page.
        """
        self._take_submitted()
        send = self._due()
        if send is None:
            return False
        if not send.begun:
            self._next = self._clock() + uniform(0.5, 1.5) / self._rate  # noqa: S311
        try:
            outcome = send.go_on(page)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning(
                "message.requeued",
                message_id=send.message.message_id, request_id=send.message.request_id, reason=str(error).strip(),
            )  # fmt: skip
            self._sends.remove(send)
            self._give_back(send)
        except (PageLost, CallTimeout) as error:
            if refusal := send.interrupted(error):
                self._end(send, refusal)
            raise
        else:
            if outcome is not None:
                self._end(send, outcome)
                self._judge_page(outcome)
        return True

    def paused(self) -> None:
        """Give back the messages in hand. The next process that claims one asks its chat first if it may have left."""
        self._take_submitted(paused=True)
        sends, self._sends = self._sends, []
        for send in sends:
            self._give_back(send)

    def _judge_page(self, outcome: Outcome) -> None:
        """Raise `PageLost` if a page that says it is connected gets no messages to WhatsApp."""
        match outcome:
            case Sent():
                self._unacknowledged = 0
                self._max_unacknowledged = MAX_UNACKNOWLEDGED
            case Unknown():
                self._unacknowledged += 1
        if self._unacknowledged >= self._max_unacknowledged:
            reason = f"WhatsApp acknowledged none of the last {self._unacknowledged} messages"
            self._unacknowledged = 0
            self._max_unacknowledged *= 2
            raise PageLost(reason)

    def _take_submitted(self, paused: bool = False) -> None:
        with self._changed:
            self._paused = paused
            submitted, self._submitted = self._submitted, []
        self._sends += submitted

    def _due(self) -> PageSend | None:
        """The message whose step is next; messages that were handed over come first."""
        now = self._clock()
        begun = [send for send in self._sends if send.begun and send.due <= now]
        if begun:
            return min(begun, key=lambda send: send.due)
        if now < self._next:
            return None
        return next((send for send in self._sends if not send.begun), None)

    def _give_back(self, send: PageSend) -> None:
        if send.handovers:
            self._handovers[send.message.id] = send.handovers
        self._finish(send, None)

    def _end(self, send: PageSend, outcome: Outcome) -> None:
        self._sends.remove(send)
        self._finish(send, outcome)

    def _finish(self, send: PageSend, outcome: Outcome | None) -> None:
        send.release()
        with self._changed:
            self._done.append((send.ticket, outcome))
            self._changed.notify()
