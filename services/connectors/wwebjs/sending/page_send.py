"""One message on its way through the page of WhatsApp Web: asked after, handed over, looked for until it is sent."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from services.connectors.base import LocalFile, PageRequest, Refusal
from services.connectors.wwebjs.browser.page import CallFailed, Page, PageLost
from services.connectors.wwebjs.sending.reconcile import PATIENCE, PER_BYTE, Handed, Sighting, Step, judge
from services.connectors.wwebjs.translation import errors, outgoing
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.message import Outcome, Outgoing, Rejected, Retry, Scope, Unavailable, Unknown

#: Seconds for a call that sends, and how many more for each byte of its file: the browser reads it and makes a preview.
CALL, CALL_PER_BYTE = 30.0, 1 / 2_000_000
#: Seconds until a message is first looked for, by what each further pause is longer, and the longest one.
FIRST_LOOK, GROWTH, LAST_LOOK = 0.03, 1.6, 1.0
#: Times that a message is given to the page, or the page loaded anew for it, at most; then the message is to blame.
MAX_TIMES = 5
#: Attempts of a message with which the page is lost again and again, while others get through.
PATIENT = 20


class SendGuard(Protocol):
    """What is written down about messages before they leave. Raises `DatabaseUnavailable` or `DatabaseError`."""

    def refusal(self, page: Page, message: Outgoing) -> Refusal | None:
        """Why a message that was not yet handed over must not leave now; None where it may, which is counted."""

    def reserve(self, message: Outgoing, key: str | None) -> None:
        """Write down the key under which a message is about to be sent; None: none, it is known not to be."""


class PageSend:
    """A message and how far it is. Everything but `ticket` and `due` belongs to the thread that owns the page."""

    def __init__(
        self, ticket: Any, request: PageRequest, ledger: SendGuard, clock: Callable[[], float], times: int
    ) -> None:
        """`times`: how often this process gave the message to the page before. `clock` gives seconds."""
        self.ticket, self.times = ticket, times
        self.due = 0.0  # when it is its turn again
        self.message, self._file = request.message, request.file
        self._ledger, self._clock = ledger, clock
        self._looks = 0
        earlier = request.message.provider_id
        self._handed = None if earlier is None else Handed(earlier, self._patience())

    @property
    def begun(self) -> bool:
        """Whether it may be with the page already."""
        return self._handed is not None

    def go_on(self, page: Page) -> Outcome | None:
        """Do what comes next; returns the outcome once there is one.

        Raises `PageLost` and `CallTimeout`, after which it may be asked again, and what its ledger raises.
        """
        if self.message.kind not in outgoing.KEYED:
            return self._act(page)
        outcome = self._begin(page) if self._handed is None else self._look(page, self._handed)
        if isinstance(outcome, Retry | Unavailable | Rejected) and self.begun:
            self._forget_key()
        return outcome

    def cut_short(self, error: Exception) -> Refusal | None:
        """What it means that `go_on` raised `PageLost` or `CallTimeout`; None where the chat must be asked first."""
        self.due = 0.0
        if self._handed is not None:
            return None
        reason = f"the page was lost before the message left: {error}"
        if self.message.kind not in outgoing.KEYED:  # it may have been done: the next attempt must know that
            return Retry("page", reason, after=1.0, attempts=PATIENT)
        return Unavailable("page", reason, chargeable=True, attempts=PATIENT, scope=Scope.CHAT)

    def release(self) -> None:
        """Let go of its file."""
        if self._file is not None:
            self._file.release()

    def _begin(self, page: Page) -> Outcome | None:
        if refusal := self._ledger.refusal(page, self.message):
            return refusal
        try:
            key = page.call("__wa.newKey", outgoing.page_id(self.message.chat_id))
        except CallFailed as failed:
            return errors.classify(failed.code, failed.message)
        self._ledger.reserve(self.message, key)
        return self._hand_over(page, key)

    def _hand_over(self, page: Page, key: str) -> Outcome | None:
        if self.times >= MAX_TIMES:
            return Rejected("interrupted", f"the page broke down {MAX_TIMES} times while it was to send this message")
        self.times += 1
        self._handed = handed = Handed(key, self._patience())
        try:
            answer = self._send(page, key)
        except CallFailed as failed:
            self._handed = replace(handed, refusal=errors.classify(failed.code, failed.message))
        else:
            self._take_up(key, answer)
        self._looks = 0
        self._look_later()
        return None

    def _send(self, page: Page, key: str) -> Any:
        if self._file is None:
            call = outgoing.text(self.message, key)
            return page.call(call.function, *call.arguments, deadline=CALL)
        options = outgoing.file_options(self.message, key, self._file.mime_type)
        deadline = CALL + _size(self._file) * CALL_PER_BYTE
        return page.send_file(outgoing.page_id(self.message.chat_id), self._file.path, options, deadline=deadline)

    def _take_up(self, key: str, answer: Any) -> None:
        """The page may have changed the key, where a chat goes by a hidden number since."""
        found = answer.get("id") if isinstance(answer, dict) else None
        if isinstance(found, str) and found != key and self._handed is not None:
            self._handed = replace(self._handed, key=found)
            self._ledger.reserve(self.message, found)

    def _look(self, page: Page, handed: Handed) -> Outcome | None:
        verdict = judge(handed, self._sighting(page, handed.key), self._clock())
        match verdict:
            case Step.HAND_OVER:
                return self._hand_over(page, handed.key)
            case Step.LOOK_AGAIN:
                self._look_later()
                return None
            case Step.RENEW_PAGE:
                return self._give_up_page()
        return verdict

    def _give_up_page(self) -> Unknown:
        self.times += 1
        if self.times > MAX_TIMES:
            return Unknown("the page never says what became of the message")
        raise PageLost("a call that sends a message does not end")

    def _sighting(self, page: Page, key: str) -> Sighting:
        try:
            seen = page.call("__wa.sight", key)
        except CallFailed:  # the page is not what it should be, and does not know
            return Sighting(None, running=True)
        return Sighting(seen["ack"], seen["running"])

    def _look_later(self) -> None:
        self.due = self._clock() + min(FIRST_LOOK * GROWTH**self._looks, LAST_LOOK)
        self._looks += 1

    def _act(self, page: Page) -> Outcome:
        answer: Any = None
        try:
            for call in outgoing.acts(self.message):
                answer = page.call(call.function, *call.arguments, deadline=CALL)
        except CallFailed as failed:
            if failed.code == "msg_not_found" and self.message.kind == "delete" and self.message.attempts:
                return errors.of_act(self.message, {"isRevoked": True})  # an earlier attempt did it
            return errors.classify(failed.code, failed.message)
        return errors.of_act(self.message, answer)

    def _patience(self) -> float:
        return self._clock() + PATIENCE + (_size(self._file) * PER_BYTE if self._file else 0.0)

    def _forget_key(self) -> None:
        with contextlib.suppress(DatabaseUnavailable, DatabaseError):  # else it is looked for once more than needed
            self._ledger.reserve(self.message, None)


def _size(file: LocalFile) -> int:
    return file.path.stat().st_size
