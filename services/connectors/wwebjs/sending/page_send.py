"""One message on its way through the page of WhatsApp Web."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from bisnesctl.backoff import Backoff
from services.connector import LocalFile, PageRequest, Refusal
from services.connectors.wwebjs.browser.page import CallFailed, Page
from services.connectors.wwebjs.sending.handover import Handover, Sighting, Step, judge
from services.connectors.wwebjs.translation import errors
from services.connectors.wwebjs.translation.connector import KEYED_KINDS
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.message import Outcome, Outgoing, Rejected, Retry, Scope, Unavailable

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
#: The same for texts, whose acknowledgement the page reports by itself.
REPORTED_LOOK_BACKOFF = Backoff(first_seconds=1.0, growth=1.0, longest_seconds=1.0)
#: How often a message may be handed to the page, or the page be reloaded for it, until the message counts as the cause.
MAX_HANDOVERS = 5
#: Attempts of a message with which the page is lost again and again, while other messages succeed.
MAX_ATTEMPTS_ON_LOST_PAGES = 20


class SendGuard(Protocol):
    """The checks before a message leaves, and its key in the outbox.

    Both methods raise `DatabaseUnavailable` and `DatabaseError`.
    """

    def admit(self, page: Page, messages: Sequence[Outgoing]) -> Mapping[int, str | Refusal]:
        """The new keys under which messages of keyed kinds may leave now, or why they must not; by their outbox ids.

        The messages are of different chats. Those that may leave are counted, and their keys are committed before this
        returns: only then may the page get them. Raises like `Page.call` too.
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
        self.reserved_key = request.message.new_key  # with it, the message was admitted by its claim
        self.is_keyed = request.message.kind in KEYED_KINDS
        self.is_text = self.is_keyed and request.file is None
        self._calls = request.calls
        self._file = request.file
        self._guard = guard
        self._clock = clock
        self._looks = 0
        self._is_reported = False  # whether the page reports how the call ends that sends it
        self._reported: Sighting | None = None  # the acknowledgement that the page has reported
        self._adopted: str | None = None  # another key that the page has reported, until it is stored
        earlier_key = request.message.provider_id
        self._handover = None if earlier_key is None else Handover(earlier_key, self._ack_deadline())

    @property
    def begun(self) -> bool:
        """Whether the page may have the message already."""
        return self._handover is not None

    @property
    def key(self) -> str | None:
        """The key under which the page may have the message."""
        return None if self._handover is None else self._handover.key

    @property
    def can_leave_with_others(self) -> bool:
        """Whether the page may get it with others: not if a page broke down with it, for which it may be the cause."""
        return self.is_text and not self.handovers

    def begin_handover(self, key: str) -> Outcome | None:
        """Note that the page may have the message from now on; returns the outcome if it must not get it again."""
        if self.handovers >= MAX_HANDOVERS:
            reason = f"the page broke down {MAX_HANDOVERS} times while it was to send this message"
            return Rejected("interrupted", reason)
        self.handovers += 1
        self._handover = Handover(key, self._ack_deadline())
        self._is_reported, self._reported = False, None
        self._looks = 0
        return None

    def text(self) -> list[Any]:
        """The arguments with which the page sends the text under its key, and reports how that ends."""
        self._is_reported = True
        return self._arguments()

    def leave_alone(self, page: Page) -> None:
        """Let the page send it, and wait until the call ends. Raises `PageLost` and `CallTimeout`."""
        try:
            answer = self._send(page)
        except CallFailed as failed:
            self._refuse(failed.code, failed.message)
        else:
            self._adopt_key(answer.get("id") if isinstance(answer, dict) else None)

    def _send(self, page: Page) -> Any:
        if self._file is None:
            return page.call_directly(self._calls[-1].function, *self._arguments(), deadline=SEND_TIMEOUT_SECONDS)
        chat, options = self._arguments()
        deadline = SEND_TIMEOUT_SECONDS + _size(self._file) * SEND_TIMEOUT_SECONDS_PER_BYTE
        return page.send_file(chat, self._file.path, options, deadline=deadline)

    def _arguments(self) -> list[Any]:
        *arguments, options = self._calls[-1].arguments
        return [*arguments, {"messageId": self.key, **options}]

    def hear(self, report: Mapping[str, Any]) -> None:
        """Note the page's report on the call that sends it: `failure`, another `id`, or the `ack`."""
        if failure := report.get("failure"):
            self._refuse(failure["code"], failure["message"])
        self._adopt_key(report.get("id"))
        if report.get("ack"):  # 0 or none proves nothing: the page is asked
            self._reported = Sighting(report["ack"])
        self.due = 0.0

    def judge(self, seen: Sighting | None) -> Outcome | Step | None:
        """The outcome or next step of a message that was handed over. Raises the errors of the guard.

        `seen`: as the page says now; None if it was not asked.
        """
        assert self._handover is not None  # noqa: S101
        if self._adopted is not None:
            self._guard.reserve(self.message, self._adopted)
            self._adopted = None
        if (found := seen or self._reported) is None:
            return None
        verdict = judge(self._handover, found, self._clock())
        if isinstance(verdict, Retry | Unavailable | Rejected):
            self.forget_key()
        return verdict

    @property
    def has_report(self) -> bool:
        """Whether the page has reported how it ended, so that it need not be asked."""
        return self._reported is not None

    def forget_key(self) -> None:
        """Note in the outbox that it was certainly not sent under its key."""
        with contextlib.suppress(DatabaseUnavailable, DatabaseError):  # otherwise it is looked up once too often
            self._guard.reserve(self.message, None)

    def look_later(self) -> None:
        """Let the page be asked after a pause."""
        self._looks += 1
        self.due = self._clock() + (REPORTED_LOOK_BACKOFF if self._is_reported else LOOK_BACKOFF).pause(self._looks)

    def act(self, page: Page) -> Outcome:
        """Carry out a message of a kind without a key. Raises `PageLost` and `CallTimeout`."""
        answer: Any = None
        try:
            for call in self._calls:
                answer = page.call(call.function, *call.arguments, deadline=SEND_TIMEOUT_SECONDS)
        except CallFailed as failed:
            if failed.code == "msg_not_found" and self.message.kind == "delete" and self.message.attempts:
                return errors.outcome_of_call(self.message, {"isRevoked": True})  # an earlier attempt deleted it
            return errors.classify(failed.code, failed.message)
        return errors.outcome_of_call(self.message, answer)

    def interrupted(self, error: Exception) -> Refusal:
        """The outcome if a step raised `PageLost` or `CallTimeout` before the message left."""
        reason = f"the page was lost before the message left: {error}"
        if not self.is_keyed:  # the call may have had its effect: the next attempt must know
            return Retry("page", reason, after=1.0, attempts=MAX_ATTEMPTS_ON_LOST_PAGES)
        return Unavailable(
            "page", reason, chargeable=True, attempts=MAX_ATTEMPTS_ON_LOST_PAGES, scope=Scope.CHAT
        )  # fmt: skip

    def release(self) -> None:
        """Release its file."""
        if self._file is not None:
            self._file.release()

    def _refuse(self, code: str | None, message: str) -> None:
        if self._handover is not None:
            self._handover = replace(self._handover, refusal=errors.classify(code, message))

    def _adopt_key(self, found: Any) -> None:
        """Adopt the key in the page's answer: it is another one if the chat meanwhile has a hidden number."""
        if isinstance(found, str) and self._handover is not None and found != self._handover.key:
            self._handover = replace(self._handover, key=found)
            self._adopted = found

    def _ack_deadline(self) -> float:
        bytes_of_file = _size(self._file) if self._file else 0
        return self._clock() + ACK_TIMEOUT_SECONDS + bytes_of_file * ACK_TIMEOUT_SECONDS_PER_BYTE


def _size(file: LocalFile) -> int:
    return file.path.stat().st_size
