"""What a session's delivery hands its messages to: they wait here for the thread that owns the page."""

import threading
import time
from collections.abc import Callable, Sequence
from random import uniform
from typing import Any

import structlog

from services.connectors.base import PageRequest
from services.connectors.wwebjs.browser.page import CallTimeout, Page, PageLost
from services.connectors.wwebjs.sending.page_send import PageSend, SendGuard
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.message import Outcome, Sent, Unknown

#: Messages that a session has in hand at once; each is of another chat.
SIZE = 16
#: Messages in a row that WhatsApp must leave unacknowledged until the page is renewed; twice as many after each renewal
#: that did not help.
UNACKNOWLEDGED = 3

log = structlog.get_logger()

#: A ticket and what became of its message; None: it was not handed over, or what became of it is to be found out anew.
Done = tuple[Any, Outcome | None]


class PageWindow:
    """Sends through a page. The delivery submits and polls; the session's owner calls `turn` and `paused`.

    A `services.http_client.InFlight` on one side and a `page_task.Work` on the other.
    """

    def __init__(
        self, ledger: SendGuard, rate: float, size: int = SIZE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rate`: messages a second, in the long run; the pauses between them vary as a person's do."""
        self.size, self.in_flight = size, 0
        self._ledger, self._rate, self._clock = ledger, rate, clock
        self._changed = threading.Condition()
        self._submitted: list[PageSend] = []
        self._done: list[Done] = []
        self._interrupted = self._resting = False
        self._errands: list[PageSend] = []  # the owner's
        self._times: dict[int, int] = {}  # how often messages that went back to the queue were given to the page
        self._unacknowledged, self._tolerated = 0, UNACKNOWLEDGED  # messages in a row
        self._next = 0.0  # when the next message may begin

    def submit(self, ticket: Any, request: PageRequest, leaving: Callable[[], None]) -> None:
        """Hand a message to the owner of the page; where that rests, it goes back to the queue at once."""
        leaving()
        times = self._times.pop(request.message.id, 0)
        errand = PageSend(ticket, request, self._ledger, self._clock, times)
        with self._changed:
            self.in_flight += 1
            if not self._resting:
                self._submitted.append(errand)
                return
        self._give_back(errand)

    def poll(self, seconds: float) -> Sequence[Done]:
        """Wait up to `seconds` for messages that came to an end, and return them."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or self._interrupted, seconds)
            self._interrupted = False
            done, self._done = self._done, []
            self.in_flight -= len(done)
        return done

    def interrupt(self) -> None:
        """End a wait that is under way, or the next one. Safe for any thread."""
        with self._changed:
            self._interrupted = True
            self._changed.notify()

    def close(self) -> None:
        """Let go of the files of what is in hand."""
        self.paused()

    def turn(self, page: Page) -> bool:
        """Do one thing for one message; returns whether there was anything to do.

        Raises `PageLost` and `CallTimeout`; what was in hand is asked after in the page that comes next.
        """
        self._take_submitted()
        errand = self._due()
        if errand is None:
            return False
        if not errand.begun:
            self._next = self._clock() + uniform(0.5, 1.5) / self._rate  # noqa: S311
        try:
            outcome = errand.go_on(page)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("a message goes back to the queue, the database is away", reason=str(error).strip())
            self._errands.remove(errand)
            self._give_back(errand)
        except (PageLost, CallTimeout) as error:
            if refusal := errand.cut_short(error):
                self._end(errand, refusal)
            raise
        else:
            if outcome is not None:
                self._end(errand, outcome)
                self._judge_page(outcome)
        return True

    def _judge_page(self, outcome: Outcome) -> None:
        """Raise `PageLost` where a page that calls itself connected gets no message to WhatsApp."""
        match outcome:
            case Sent():
                self._unacknowledged, self._tolerated = 0, UNACKNOWLEDGED
            case Unknown():
                self._unacknowledged += 1
        if self._unacknowledged >= self._tolerated:
            reason = f"WhatsApp acknowledged none of the last {self._unacknowledged} messages"
            self._unacknowledged, self._tolerated = 0, 2 * self._tolerated
            raise PageLost(reason)

    def paused(self) -> None:
        """Give back what is in hand; whoever takes up what may have left asks its chat first."""
        self._take_submitted(resting=True)
        left, self._errands = self._errands, []
        for errand in left:
            self._give_back(errand)

    def _take_submitted(self, resting: bool = False) -> None:
        with self._changed:
            self._resting = resting
            submitted, self._submitted = self._submitted, []
        self._errands += submitted

    def _due(self) -> PageSend | None:
        """Whose turn it is: what was handed over comes before what was not."""
        now = self._clock()
        begun = [errand for errand in self._errands if errand.begun and errand.due <= now]
        if begun:
            return min(begun, key=lambda errand: errand.due)
        if now < self._next:
            return None
        return next((errand for errand in self._errands if not errand.begun), None)

    def _give_back(self, errand: PageSend) -> None:
        if errand.times:
            self._times[errand.message.id] = errand.times
        self._finish(errand, None)

    def _end(self, errand: PageSend, outcome: Outcome) -> None:
        self._errands.remove(errand)
        self._finish(errand, outcome)

    def _finish(self, errand: PageSend, outcome: Outcome | None) -> None:
        errand.release()
        with self._changed:
            self._done.append((errand.ticket, outcome))
            self._changed.notify()
