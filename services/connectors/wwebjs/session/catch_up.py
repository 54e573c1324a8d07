"""What came in while nobody looked: asked of the page at the start, now and then, and whenever events were lost.

The answers are stored like events; what is known already changes nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.connectors.wwebjs.browser.page import CallFailed, Page
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.database.connection import Database, DatabaseError, DatabaseUnavailable

#: Seconds after which the page is asked for the second time, since what was sent meanwhile is still coming in at the
#: first, and between any two times after that.
SETTLING, INTERVAL = 60.0, 300.0
#: Seconds before the page is asked again when it, or the database, refused to work.
PAUSE = 10.0
#: Seconds by which the page is asked for more than was missed: clocks differ, and messages are dated by their senders.
MARGIN = 600.0
#: Seconds for which messages are asked, at most: what was said long before is no news.
LONGEST = 14 * 86400.0
#: Messages and keys in one answer, at most, and seconds for it.
MESSAGES, KEYS, DEADLINE = 500, 100, 60.0

_SINCE = """
SELECT CASE WHEN COALESCE(caught_up_for = own_number, true) THEN extract(epoch FROM caught_up_at)::float END,
       extract(epoch FROM now())::float
FROM wa_session WHERE bot_id = %s"""
_CAUGHT_UP = """
UPDATE wa_session SET caught_up_for = own_number, caught_up_at = CASE WHEN COALESCE(caught_up_for = own_number, true)
    THEN GREATEST(caught_up_at, to_timestamp(%(at)s)) ELSE to_timestamp(%(at)s) END
WHERE bot_id = %(bot)s"""
# Those of the last days that WhatsApp may have more to say of, the newest first.
_UNREAD = """
SELECT o.provider_id FROM wa_key k JOIN outbox o USING (message_id)
WHERE k.bot_id = %s AND k.created_at > now() - interval '3 days' AND o.provider_id IS NOT NULL
    AND o.status NOT IN ('failed', 'read')
ORDER BY k.created_at DESC LIMIT 1000"""

log = structlog.get_logger()


@dataclass(slots=True)
class _Filling:
    """A gap that is being filled."""

    since: int  # seconds since the epoch: what is older is stored
    began: float
    keys: list[str]  # of our messages whose acknowledgements are to be asked for
    limit: int = MESSAGES
    all_told: bool = False  # whether the page has told all messages
    known: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # what each message looked like


class CatchUp:
    """A session's work: asks its page for what was missed."""

    def __init__(self, database: Database, bot_id: int, recorder: EventRecorder) -> None:
        self._database, self._bot_id, self._recorder = database, bot_id, recorder
        self._next = float("inf")  # when to ask again: seconds of the monotonic clock
        self._filling: _Filling | None = None
        self._before: float | None = None  # when the fill before began, since the session works
        self._known: dict[str, tuple[Any, ...]] = {}

    def begin(self) -> None:
        """The page works again, or has lost events: ask it as soon as possible."""
        self._next, self._before, self._filling = 0.0, None, None

    def paused(self) -> None:
        """The page does not work any more."""
        self._next, self._filling = float("inf"), None

    def turn(self, page: Page) -> bool:
        """Ask for one piece of what was missed; returns whether there was anything to ask."""
        filling, self._filling = self._filling, None  # if anything is raised it begins anew
        if filling is None and time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + PAUSE
        try:
            filling = filling or self._start()
            if filling is not None and not self._go_on(page, filling):
                self._filling = filling
            elif filling is not None:
                self._finish(filling)
        except (DatabaseUnavailable, DatabaseError, CallFailed) as error:
            log.warning("what was missed cannot be asked for now", bot=self._bot_id, reason=str(error).strip())
        return True

    def _start(self) -> _Filling | None:
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_SINCE, (self._bot_id,))
            since, now = cursor.fetchone() or (None, time.time())
            if since is None:  # linked just now: what was said before is none of ours
                cursor.execute(_CAUGHT_UP, {"at": now, "bot": self._bot_id})
                since = now
            keys: list[str] = []
            if self._before is None:
                cursor.execute(_UNREAD, (self._bot_id,))
                keys = [key for (key,) in cursor.fetchall()]
        return _Filling(int(max(since, now - LONGEST)), now, keys)  # messages are dated to the second

    def _go_on(self, page: Page, filling: _Filling) -> bool:
        """Ask for the next piece; returns whether it was the last."""
        if not filling.all_told:
            found = page.call("__wa.recent", filling.since, filling.limit, deadline=DEADLINE)
            self._record_messages(filling, found)
            _advance(filling, found)
        elif filling.keys:
            asked, filling.keys = filling.keys[:KEYS], filling.keys[KEYS:]
            self._record_acks(page.call("__wa.acks", asked, deadline=DEADLINE))
        return filling.all_told and not filling.keys

    def _record_messages(self, filling: _Filling, found: Sequence[dict[str, Any]]) -> None:
        new = []
        for message in found:
            key, look = str(message.get("id")), _look(message)
            if look not in (self._known.get(key), filling.known.get(key)):
                new.append(_event("chat.new_message", message))
            filling.known[key] = look
        self._recorder.store(new)

    def _record_acks(self, found: Sequence[dict[str, Any]]) -> None:
        self._recorder.store(
            [_event("chat.msg_ack_change", {"ids": [each.get("id")], "ack": each.get("ack")}) for each in found]
        )

    def _finish(self, filling: _Filling) -> None:
        self._known = filling.known
        if self._before is not None:
            with self._database.connection() as connection, connection.cursor() as cursor:
                cursor.execute(_CAUGHT_UP, {"at": self._before - MARGIN, "bot": self._bot_id})
        self._next = time.monotonic() + (SETTLING if self._before is None else INTERVAL)
        self._before = filling.began


def _advance(filling: _Filling, found: Sequence[dict[str, Any]]) -> None:
    """Where the next answer begins; the last message of this one is told again, with those of its second."""
    filling.all_told = len(found) < filling.limit
    last = max((int(message.get("t") or 0) for message in found), default=0)
    if last > filling.since:
        filling.since = last
    else:
        filling.limit *= 2


def _look(message: dict[str, Any]) -> tuple[Any, ...]:
    """What of a message may change."""
    return tuple(message.get(name) for name in ("type", "ack", "edited", "body", "caption"))


def _event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "data": data, "at": time.time(), "boot": "gap", "seq": 0}
