"""Whether a number is on WhatsApp, asked before the first message to it: who writes to many that are not is banned."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.connectors.base import Refusal
from services.connectors.wwebjs.browser.page import CallFailed, Page
from services.connectors.wwebjs.translation.outgoing import page_id
from services.database.connection import Connection, Database
from services.message import Outgoing, Rejected, Retry, Scope, Unavailable

#: Seconds after which a number that was not found is asked for again: wa-js says the same of one that could not be
#: asked for, and keeps its answer for 15 seconds (WA-JS source, `queryWidExists`).
CONFIRM = 16.0
#: Attempts of a message to a number that was not found.
PATIENT = 20
#: NumberLookup that are remembered to be there, and that were not found once.
REMEMBERED = 10_000

#: Whether anything was ever said in a chat, by either side.
HISTORY = """(
    EXISTS (SELECT FROM chat WHERE bot_id = c.id AND chat_id = %(chat)s)
    OR EXISTS (SELECT FROM messages m WHERE m.company_id = c.company_id AND m.phone_index = c.phone_index
               AND m.contact_id = c.company_id || '-' || split_part(%(chat)s, '@', 1)))"""
_KNOWN = f"""
SELECT COALESCE(n.registered, NULLIF({HISTORY}, false))
FROM phone_configs c LEFT JOIN wa_number n ON n.bot_id = c.id AND n.chat_id = %(chat)s
    AND (n.registered OR n.checked_at > now() - interval '1 day')
WHERE c.id = %(bot)s"""
_REMEMBER = """
INSERT INTO wa_number (bot_id, chat_id, registered) VALUES (%(bot)s, %(chat)s, %(registered)s)
ON CONFLICT (bot_id, chat_id) DO UPDATE SET registered = excluded.registered, checked_at = now()"""


@dataclass(frozen=True, slots=True)
class _Chat:
    bot: int
    chat: str


class NumberLookup:
    """Knows which numbers are on WhatsApp; belongs to the thread that owns the page."""

    def __init__(self, database: Database, confirm: float = CONFIRM, clock: Callable[[], float] = time.monotonic):
        """`confirm`: seconds after which a number that was not found is asked for again."""
        self._database, self._confirm, self._clock = database, confirm, clock
        self._there: dict[_Chat, None] = {}
        self._missed: dict[_Chat, float] = {}

    def refusal(self, page: Page, message: Outgoing) -> Refusal | None:
        """Why the number cannot be written to; None where it can. Raises `DatabaseUnavailable`, `DatabaseError`."""
        chat = _Chat(message.bot_id, message.chat_id)
        if not message.chat_id.isdigit() or chat in self._there:
            return None
        with self._database.connection() as connection:
            known = _known(connection, chat)
        if known is None:
            return self._ask(page, chat)
        if known:
            _keep(self._there, chat, None)
            return None
        return _absent(message.chat_id)

    def _ask(self, page: Page, chat: _Chat) -> Refusal | None:
        try:
            found = page.call("WPP.contact.queryWidExists", page_id(chat.chat)) is not None
        except CallFailed as failed:
            reason = f"WhatsApp could not be asked for the number: {failed.message}"
            return Unavailable("number_check", reason, chargeable=True, scope=Scope.CHAT)
        if not found and (left := self._left(chat)) > 0:
            reason = "WhatsApp did not find the number; it is asked once more before the message fails"
            return Retry("number_check", reason, after=left, attempts=PATIENT)
        with self._database.connection() as connection:
            _remember(connection, chat, found)
        self._missed.pop(chat, None)
        return None if found else _absent(chat.chat)

    def _left(self, chat: _Chat) -> float:
        """Seconds until a number that was not found may be asked for again."""
        if chat not in self._missed:
            _keep(self._missed, chat, self._clock())
        return self._missed[chat] + self._confirm - self._clock()


def _absent(number: str) -> Rejected:
    return Rejected("not_on_whatsapp", f"{number} is not on WhatsApp; check the number with its country code")


def _known(connection: Connection, chat: _Chat) -> bool | None:
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN, {"bot": chat.bot, "chat": chat.chat})
        row = cursor.fetchone()
    return row[0] if row else None


def _remember(connection: Connection, chat: _Chat, registered: bool) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_REMEMBER, {"bot": chat.bot, "chat": chat.chat, "registered": registered})


def _keep(memory: dict[_Chat, Any], key: _Chat, value: Any) -> None:
    memory[key] = value
    if len(memory) > REMEMBERED:
        del memory[next(iter(memory))]
