"""The messages of a session on their way through the page of WhatsApp Web: several at once, each of another chat."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from random import uniform
from typing import Any

import structlog

from services.connector import PageRequest
from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, Page, PageLost
from services.connectors.wwebjs.sending import page_send
from services.connectors.wwebjs.sending.handover import NOT_ACKNOWLEDGED, Sighting, Step
from services.connectors.wwebjs.sending.page_send import MAX_HANDOVERS, PageSend, SendGuard
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.message import Outcome, Sent, Unknown

#: Maximum number of messages in hand in a session; each is of another chat.
MAX_IN_FLIGHT = 16
#: Maximum number of keys that are remembered, by which the page's events of our own messages are recognised.
MAX_SENT_KEYS = 1000
#: How far the loop may be behind the rate: messages that were due within that time leave together.
PACE_TOLERANCE_SECONDS = 0.02
#: Consecutive messages without WhatsApp's acknowledgement that make the page count as lost. The number doubles with
#: each new page that does not help.
MAX_UNACKNOWLEDGED = 3

log = structlog.get_logger()

#: A ticket and the outcome of its message. None: it was not handed over, or its outcome must be looked up later.
Done = tuple[Any, Outcome | None]


class PageSends:
    """The messages in hand. The delivery's thread calls `submit` and `poll`, the browser loop `turn` and `paused`.

    It is a `services.http_exchange.InFlight` for the delivery and a `browser_loop.PageTask` for the loop.
    """

    def __init__(
        self, guard: SendGuard, rate: float, size: int = MAX_IN_FLIGHT, clock: Callable[[], float] = time.monotonic,
        submitted: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        """`rate`: messages a second in the long run. The pauses between messages vary as a person's do.

        `submitted`: called by `poll` after messages were submitted, to wake the browser loop.
        """
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
        self._notify_loop, self._announced = submitted, True
        self._sent_keys: dict[str, None] = {}  # those that the page got last
        self._handovers: dict[int, int] = {}  # of messages that went back to the queue, by outbox id
        self._unacknowledged = 0  # consecutive messages
        self._max_unacknowledged = MAX_UNACKNOWLEDGED
        self._next = 0.0  # when the next message may begin
        self._one_by_one = False  # whether messages begin alone, because a step of several failed

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
                self._announced = False
                return
        self._give_back(send)

    def poll(self, seconds: float) -> Sequence[Done]:
        """Wait up to `seconds` for messages with an outcome, and return them."""
        if not self._announced:  # several that were submitted one after the other leave together
            self._announced = True
            self._notify_loop()
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
        """Take the next step of the messages that are due; returns whether there was anything to do.

        Raises `PageLost` and `CallTimeout`; the messages in hand are then looked up in the next page.
        """
        self._take_submitted()
        now = self._clock()
        if begun := [send for send in self._sends if send.begun and send.due <= now]:
            self._take_step(begun, lambda: self._look(page, begun))
        elif startable := self._startable(now):
            keyed = [(send, send.reserved_key) for send in startable if send.reserved_key is not None]
            if keyed:
                self._take_step([send for send, _ in keyed], lambda: self._hand_over(page, keyed))
            if asked := [send for send in startable if send.reserved_key is None]:
                self._take_step(asked, lambda: self._start(page, asked))
            self._one_by_one = False
        else:
            return False
        return True

    def wait_seconds(self) -> float:
        """How long there is nothing to do, unless more is submitted."""
        now = self._clock()
        due = [send.due for send in self._sends if send.begun]
        if len(due) < len(self._sends):
            due.append(self._next)
        with self._changed:
            if self._submitted:
                return 0.0
        return max(0.0, min(due, default=math.inf) - now)

    def has_sent(self, key: str) -> bool:
        """Whether this message is in hand, or its outcome was `Sent`. Of no message to a hidden user.

        The page's events of it say nothing new then, unless they contain a hidden user's number.
        """
        return key in self._sent_keys and "@lid" not in key

    def hear(self, report: Mapping[str, Any]) -> None:
        """The page's report on a call that sends a text; see `bridge.js`. Called by the thread of the loop."""
        for send in self._sends:
            if send.key == report.get("key"):
                send.hear(report)

    def _take_step(self, sends: list[PageSend], step: Callable[[], None]) -> None:
        """Take a step of some messages. Those that the step has ended are no longer in hand afterwards."""
        try:
            step()
        except (DatabaseUnavailable, DatabaseError) as error:
            for send in self._remaining(sends):
                log.warning(
                    "message.requeued",
                    message_id=send.message.message_id, request_id=send.message.request_id, reason=str(error).strip(),
                )  # fmt: skip
                self._sends.remove(send)
                self._give_back(send)
        except (PageLost, CallTimeout) as error:
            self._blame([send for send in self._remaining(sends) if not send.begun], error)
            for send in self._remaining(sends):
                send.due = 0.0
            raise

    def _blame(self, sends: list[PageSend], error: Exception) -> None:
        """Charge a failed step to the message that had not left; of several, each then begins alone to find out."""
        self._one_by_one = len(sends) > 1
        if len(sends) == 1:
            self._end(sends[0], sends[0].interrupted(error))

    def _remaining(self, sends: list[PageSend]) -> list[PageSend]:
        return [send for send in sends if send in self._sends]

    def _start(self, page: Page, sends: list[PageSend]) -> None:
        """Begin messages: several texts, or a single one of another kind."""
        if not sends[0].is_keyed:
            self._end(sends[0], sends[0].act(page))
            return
        self._hand_over(page, self._admit(page, sends))

    def _admit(self, page: Page, sends: list[PageSend]) -> list[tuple[PageSend, str]]:
        """The messages that may leave, with their keys; the others end."""
        admitted = self._guard.admit(page, [send.message for send in sends])
        keys: list[tuple[PageSend, str]] = []
        for send in sends:
            key = admitted[send.message.id]
            if isinstance(key, str):
                keys.append((send, key))
            else:
                self._end(send, key)
        return keys

    def _hand_over(self, page: Page, keys: list[tuple[PageSend, str]]) -> None:
        """Let the page send messages, each under its key: those that can leave with others first, in one call."""
        together = [(send, key) for send, key in keys if send.can_leave_with_others]
        if texts := [send for send, key in together if self._begin_handover(send, key)]:
            _send_texts(page, texts)
        for send in texts:
            send.look_later()
        for send, key in keys:
            if (send, key) not in together and self._begin_handover(send, key):
                send.leave_alone(page)
                send.look_later()

    def _begin_handover(self, send: PageSend, key: str) -> bool:
        """Whether the page may get a message now; otherwise it ends."""
        refusal = send.begin_handover(key)
        if refusal is None:
            self._remember(key)
            return True
        send.forget_key()
        self._end(send, refusal)
        return False

    def _remember(self, key: str) -> None:
        self._sent_keys[key] = None
        if len(self._sent_keys) > MAX_SENT_KEYS:
            del self._sent_keys[next(iter(self._sent_keys))]

    def _look(self, page: Page, sends: list[PageSend]) -> None:
        """Judge messages that were handed over, by their page's reports or by asking the page."""
        asked = [send for send in sends if not send.has_report]
        seen = dict(zip(asked, _look_up(page, [send.key or "" for send in asked]), strict=True)) if asked else {}
        again: list[tuple[PageSend, str]] = []
        ended: list[Outcome] = []
        renew = False
        for send in sends:
            match send.judge(seen.get(send)):
                case None | Step.LOOK_AGAIN:
                    send.look_later()
                case Step.HAND_OVER:
                    again.append((send, send.key or ""))
                case Step.RENEW_PAGE:
                    outcomes = self._renew_for(send)
                    ended += outcomes
                    renew |= not outcomes
                case outcome:
                    self._end(send, outcome)
                    ended.append(outcome)
        self._judge_page(ended)
        if renew:
            raise PageLost("a call that sends a message does not end")
        self._hand_over(page, again)

    def _renew_for(self, send: PageSend) -> list[Outcome]:
        """Count a reload of the page for a message; returns its outcome if there were enough of them."""
        send.handovers += 1
        if send.handovers <= MAX_HANDOVERS:
            return []
        outcome = Unknown("the page does not say whether the message was sent", code=NOT_ACKNOWLEDGED)
        self._end(send, outcome)
        return [outcome]

    def paused(self) -> None:
        """Give back the messages in hand. The next process that claims one asks its chat first if it may have left."""
        self._take_submitted(paused=True)
        sends, self._sends = self._sends, []
        for send in sends:
            self._give_back(send)

    def _judge_page(self, outcomes: Sequence[Outcome]) -> None:
        """Raise `PageLost` if a page that says it is connected gets no messages to WhatsApp."""
        for outcome in outcomes:
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

    def _startable(self, now: float) -> list[PageSend]:
        """The messages that begin now, as the pace permits: the oldest, and further texts if it is one."""
        waiting = [send for send in self._sends if not send.begun]
        texts = [send for send in waiting if send.is_text]
        startable: list[PageSend] = []
        for send in texts if texts[:1] == waiting[:1] else waiting[:1]:
            if now < self._next or (startable and self._one_by_one):
                break
            earliest = max(self._next, now - PACE_TOLERANCE_SECONDS)
            self._next = earliest + uniform(0.5, 1.5) / self._rate  # noqa: S311
            startable.append(send)
        return startable

    def _give_back(self, send: PageSend) -> None:
        self._sent_keys.pop(send.key or "", None)
        if send.handovers:
            self._handovers[send.message.id] = send.handovers
        self._finish(send, None)

    def _end(self, send: PageSend, outcome: Outcome) -> None:
        if not isinstance(outcome, Sent):
            self._sent_keys.pop(send.key or "", None)
        self._sends.remove(send)
        self._finish(send, outcome)

    def _finish(self, send: PageSend, outcome: Outcome | None) -> None:
        send.release()
        with self._changed:
            self._done.append((send.ticket, outcome))
            self._changed.notify()


def _look_up(page: Page, keys: Sequence[str]) -> list[Sighting]:
    """The page's present knowledge of some keys."""
    try:
        found = page.call_directly("__wa.sightAll", list(keys))
    except CallFailed:  # the page is not ready, so it cannot know
        return [Sighting(None, running=True) for _ in keys]
    return [Sighting(seen["ack"], seen["running"]) for seen in found]


def _send_texts(page: Page, sends: Sequence[PageSend]) -> None:
    """Let the page send texts under their keys; it reports how each ends."""
    texts = [send.text() for send in sends]
    try:
        page.call_directly("__wa.sendTexts", texts, deadline=page_send.SEND_TIMEOUT_SECONDS)
    except CallFailed as failed:
        for send in sends:
            send.hear({"failure": {"code": failed.code, "message": failed.message}})
