"""Catches up on messages that arrived unseen: at the start, regularly, and whenever events were lost.

The page's answers are stored like events. Messages that are known already change nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.connectors.wwebjs.browser.page import CallFailed, Page
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.session.status_store import StatusStore
from services.database.connection import DatabaseError, DatabaseUnavailable

#: The time between the first and the second catch-up: during the first, messages of the meantime are still arriving.
SECOND_AFTER_SECONDS = 60.0
#: The time between any two later ones.
INTERVAL_SECONDS = 300.0
#: The pause after a failure of the page or the database.
RETRY_SECONDS = 10.0
#: The overlap of two catch-ups: clocks differ, and messages are dated by their senders.
OVERLAP_SECONDS = 600.0
#: The longest time to look back; older messages are no longer of interest.
MAX_AGE_SECONDS = 14 * 86400.0
#: Maximum number of messages in one answer.
MAX_MESSAGES = 500
#: Maximum number of keys in one request for acknowledgements.
MAX_KEYS = 100
#: The limit for one answer.
ANSWER_TIMEOUT_SECONDS = 60.0

# Messages of the last days that WhatsApp may report more of, the newest first.
_OPEN_KEYS = """
SELECT o.provider_id FROM wa_key k JOIN outbox o USING (message_id)
WHERE k.bot_id = %s AND k.created_at > now() - interval '3 days' AND o.provider_id IS NOT NULL
    AND o.status NOT IN ('failed', 'read')
ORDER BY k.created_at DESC LIMIT 1000"""

log = structlog.get_logger()


@dataclass(slots=True)
class _Run:
    """One catch-up that is under way."""

    since: int  # seconds since the epoch: older messages are stored
    began: float  # seconds since the epoch
    keys: list[str]  # of our messages whose acknowledgements are to be requested
    limit: int = MAX_MESSAGES
    messages_done: bool = False  # whether the page has returned all messages
    seen: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # the fingerprints of messages, by key


class CatchUp:
    """A page task: requests the messages that were missed."""

    def __init__(self, status: StatusStore, recorder: EventRecorder) -> None:
        self._status = status
        self._recorder = recorder
        self._next = float("inf")  # the time of the next run, by the monotonic clock
        self._run: _Run | None = None
        self._last_began: float | None = None  # when the last run began; None: none since the page works
        self._seen: dict[str, tuple[Any, ...]] = {}  # by the last run

    def begin(self) -> None:
        """The page works again, or has lost events: catch up as soon as possible."""
        self._next = 0.0
        self._last_began = None
        self._run = None

    def paused(self) -> None:
        """The page no longer works."""
        self._next = float("inf")
        self._run = None

    def wait_seconds(self) -> float:
        """How long nothing is to be requested."""
        return 0.0 if self._run is not None else self._next - time.monotonic()

    def turn(self, page: Page) -> bool:
        """Request one piece of the missed messages; returns whether there was anything to do."""
        run, self._run = self._run, None  # after an error, the run starts over
        if run is None and time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + RETRY_SECONDS
        try:
            run = run or self._start()
            if self._request_next(page, run):
                self._finish(run)
            else:
                self._run = run
        except (DatabaseUnavailable, DatabaseError, CallFailed) as error:
            log.warning("catch_up.failed", bot=self._status.bot_id, reason=str(error).strip())
        return True

    def _start(self) -> _Run:
        since, now = self._status.caught_up_at() or (None, time.time())
        if since is None:  # just linked: earlier messages are not ours
            self._status.caught_up(now)
            since = now
        keys = self._open_keys() if self._last_began is None else []
        return _Run(int(max(since, now - MAX_AGE_SECONDS)), now, keys)  # messages are dated to the second

    def _open_keys(self) -> list[str]:
        with self._status.database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_OPEN_KEYS, (self._status.bot_id,))
            return [key for (key,) in cursor.fetchall()]

    def _request_next(self, page: Page, run: _Run) -> bool:
        """Request the next piece; returns whether it was the last."""
        if not run.messages_done:
            found = page.call("__wa.recent", run.since, run.limit, deadline=ANSWER_TIMEOUT_SECONDS)
            self._record_messages(run, found)
            _advance(run, found)
        elif run.keys:
            asked, run.keys = run.keys[:MAX_KEYS], run.keys[MAX_KEYS:]
            self._record_acks(page.call("__wa.acks", asked, deadline=ANSWER_TIMEOUT_SECONDS))
        return run.messages_done and not run.keys

    def _record_messages(self, run: _Run, found: Sequence[dict[str, Any]]) -> None:
        new = []
        for message in found:
            key, fingerprint = str(message.get("id")), _fingerprint(message)
            if fingerprint not in (self._seen.get(key), run.seen.get(key)):
                new.append(_event("chat.new_message", message))
            run.seen[key] = fingerprint
        self._recorder.store(new)

    def _record_acks(self, found: Sequence[dict[str, Any]]) -> None:
        self._recorder.store(
            [_event("chat.msg_ack_change", {"ids": [each.get("id")], "ack": each.get("ack")}) for each in found]
        )

    def _finish(self, run: _Run) -> None:
        self._seen = run.seen
        if self._last_began is not None:
            self._status.caught_up(self._last_began - OVERLAP_SECONDS)
        self._next = time.monotonic() + (SECOND_AFTER_SECONDS if self._last_began is None else INTERVAL_SECONDS)
        self._last_began = run.began


def _advance(run: _Run, found: Sequence[dict[str, Any]]) -> None:
    """Set where the next answer begins: at the second of this answer's last message, which is returned again."""
    run.messages_done = len(found) < run.limit
    last = max((int(message.get("t") or 0) for message in found), default=0)
    if last > run.since:
        run.since = last
    else:
        run.limit *= 2


def _fingerprint(message: dict[str, Any]) -> tuple[Any, ...]:
    """The parts of a message that may change."""
    return tuple(message.get(name) for name in ("type", "ack", "edited", "body", "caption"))


def _event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "data": data, "at": time.time(), "boot": "gap", "seq": 0}
