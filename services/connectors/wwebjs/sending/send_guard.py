"""The checks before a message is handed to the page: is the number on WhatsApp, and may the bot send more now?

A bot that writes to many numbers that are not on WhatsApp is banned, so a number is looked up before the first message
to it. During warm-up a bot may send a limited number of messages an hour and a day, and to a limited number of new
chats a day. The guard also gives a message its key, and stores that in the outbox.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.connector import Refusal
from services.connectors.wwebjs.browser.page import CallFailed, Page
from services.connectors.wwebjs.translation import errors
from services.connectors.wwebjs.translation.connector import page_id
from services.database.connection import Database, query, transaction
from services.message import Outgoing, Rejected, Retry, Scope, Unavailable

#: How long after "not found" a number is looked up again: wa-js returns the same if the look-up itself failed, and
#: caches its answer for 15 seconds (WA-JS source, `queryWidExists`).
CONFIRM_NOT_FOUND_SECONDS = 16.0
#: Attempts of a message to a number that was not found.
MAX_ATTEMPTS_NOT_FOUND = 20
#: Attempts of a message during warm-up, which never fails for that reason.
MAX_ATTEMPTS_WARMUP = 32_000
#: Maximum number of remembered numbers: of those on WhatsApp, and of those that were not found once.
MAX_REMEMBERED = 10_000
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

#: Whether there ever was a message in a chat, in either direction.
_HISTORY = """(
    EXISTS (SELECT FROM chat WHERE bot_id = c.id AND chat_id = %(chat)s)
    OR EXISTS (SELECT FROM messages m WHERE m.company_id = c.company_id AND m.phone_index = c.phone_index
               AND m.contact_id = c.company_id || '-' || split_part(%(chat)s, '@', 1)))"""
_KNOWN_NUMBER = f"""
SELECT COALESCE(n.registered, NULLIF({_HISTORY}, false))
FROM phone_configs c LEFT JOIN wa_number n ON n.bot_id = c.id AND n.chat_id = %(chat)s
    AND (n.registered OR n.checked_at > now() - interval '1 day')
WHERE c.id = %(bot)s"""
_REMEMBER_NUMBER = """
INSERT INTO wa_number (bot_id, chat_id, registered) VALUES (%(bot)s, %(chat)s, %(registered)s)
ON CONFLICT (bot_id, chat_id) DO UPDATE SET registered = excluded.registered, checked_at = now()"""

_WARMUP_LIMIT = f"""
SELECT l.per_hour, l.per_day, l.new_chats_per_day, now(), NOT {_HISTORY}
FROM phone_configs c LEFT JOIN wa_limit l ON l.bot_id = c.id WHERE c.id = %(bot)s"""
_SENT = """
SELECT hour, messages, new_chats FROM wa_sent
WHERE bot_id = %(bot)s AND hour > date_trunc('hour', now()) - interval '1 day' ORDER BY hour"""
_COUNT = """
INSERT INTO wa_sent AS s (bot_id, hour, messages, new_chats) VALUES (%(bot)s, date_trunc('hour', now()), 1, %(new)s)
ON CONFLICT (bot_id, hour) DO UPDATE SET messages = s.messages + 1, new_chats = s.new_chats + excluded.new_chats"""

_RESERVE = """
WITH known AS (
    INSERT INTO wa_key (bot_id, key_id, message_id)
    SELECT %(bot)s, split_part(%(key)s, '_', 3), %(message)s::uuid WHERE %(key)s IS NOT NULL ON CONFLICT DO NOTHING
)
UPDATE outbox SET provider_id = %(key)s WHERE bot_id = %(bot)s AND chat_id = %(chat)s AND id = %(id)s"""


class DatabaseSendGuard:
    """The `page_sends.SendGuard` of a session. It belongs to the thread of the browser loop."""

    def __init__(
        self,
        database: Database,
        confirm_seconds: float = CONFIRM_NOT_FOUND_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`confirm_seconds`: how long after "not found" a number is looked up again."""
        self._database = database
        self._confirm_seconds = confirm_seconds
        self._clock = clock
        self._registered: dict[tuple[int, str], None] = {}  # chats (bot and chat id) that are on WhatsApp
        self._first_missed: dict[tuple[int, str], float] = {}  # when chats were not found for the first time

    def admit(self, page: Page, message: Outgoing) -> str | Refusal:
        """The number must be on WhatsApp, and the bot within its warm-up limits. The message then gets a new key."""
        if refusal := self._refuse_number(page, message) or self._refuse_warmup(message):
            return refusal
        try:
            key: str = page.call("__wa.newKey", page_id(message.chat_id))
        except CallFailed as failed:
            return errors.classify(failed.code, failed.message)
        self.reserve(message, key)
        return key

    def reserve(self, message: Outgoing, key: str | None) -> None:
        """Store the key in the outbox, for the next process that claims the message."""
        values = {"bot": message.bot_id, "chat": message.chat_id, "id": message.id, "message": message.message_id}
        with self._database.connection() as connection:
            query(connection, _RESERVE, values | {"key": key})

    def _refuse_number(self, page: Page, message: Outgoing) -> Refusal | None:
        chat = (message.bot_id, message.chat_id)
        if not message.chat_id.isdigit() or chat in self._registered:
            return None
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_KNOWN_NUMBER, {"bot": message.bot_id, "chat": message.chat_id})
            (registered,) = cursor.fetchone() or (None,)
        if registered is None:
            return self._look_up(page, message)
        if registered:
            _remember(self._registered, chat, None)
            return None
        return _not_on_whatsapp(message.chat_id)

    def _look_up(self, page: Page, message: Outgoing) -> Refusal | None:
        chat = (message.bot_id, message.chat_id)
        try:
            found = page.call("WPP.contact.queryWidExists", page_id(message.chat_id)) is not None
        except CallFailed as failed:
            reason = f"the number could not be looked up on WhatsApp: {failed.message}"
            return Unavailable("number_check", reason, chargeable=True, scope=Scope.CHAT)
        if not found and (left := self._seconds_until_confirmed(chat)) > 0:
            reason = "WhatsApp did not find the number; it is looked up again before the message fails"
            return Retry("number_check", reason, after=left, attempts=MAX_ATTEMPTS_NOT_FOUND)
        with self._database.connection() as connection, connection.cursor() as cursor:
            values = {"bot": message.bot_id, "chat": message.chat_id, "registered": found}
            cursor.execute(_REMEMBER_NUMBER, values)
        self._first_missed.pop(chat, None)
        return None if found else _not_on_whatsapp(message.chat_id)

    def _seconds_until_confirmed(self, chat: tuple[int, str]) -> float:
        if chat not in self._first_missed:
            _remember(self._first_missed, chat, self._clock())
        return self._first_missed[chat] + self._confirm_seconds - self._clock()

    def _refuse_warmup(self, message: Outgoing) -> Retry | None:
        """Why the message must wait; None if it need not, and then it is counted."""
        values = {"bot": message.bot_id, "chat": message.chat_id}
        with self._database.connection() as connection, transaction(connection) as cursor:
            cursor.execute(_WARMUP_LIMIT, values)
            row = cursor.fetchone()
            if row is None:  # the bot was just removed
                return None
            *limits, now, new_chat = row
            cursor.execute(_SENT, values)
            hours = [SentInHour(*hour) for hour in cursor.fetchall()]
            retry = warmup_retry(WarmupLimit(*limits), hours, now, new_chat)
            if retry is None:
                cursor.execute(_COUNT, values | {"new": int(new_chat)})
        return retry


def _not_on_whatsapp(number: str) -> Rejected:
    return Rejected("not_on_whatsapp", f"{number} is not on WhatsApp; check the number with its country code")


def _remember(memory: dict[tuple[int, str], Any], chat: tuple[int, str], value: Any) -> None:
    memory[chat] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]


# --- Warm-up, as a pure function --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WarmupLimit:
    """The limits of a bot; None: no limit."""

    per_hour: int | None = None
    per_day: int | None = None
    new_chats_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class SentInHour:
    """The messages of a bot in the hour that began at `hour`."""

    hour: datetime
    messages: int
    new_chats: int = 0


def warmup_retry(limit: WarmupLimit, sent: Sequence[SentInHour], now: datetime, new_chat: bool) -> Retry | None:
    """Why and how long the next message must wait; None if it need not.

    `sent`: the hours of the last day, the oldest first, including the current one if anything was sent in it. Hours are
    those of the clock; a day is the current hour and the 23 before it.
    """
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    in_hour = sum(each.messages for each in sent if each.hour == this_hour)
    if limit.per_hour is not None and in_hour >= limit.per_hour:
        return _wait(f"{limit.per_hour} messages an hour", this_hour + _HOUR - now, Scope.BOT)
    messages = [(each.hour, each.messages) for each in sent]
    if until := _below_limit_at(limit.per_day, messages):
        return _wait(f"{limit.per_day} messages a day", until - now, Scope.BOT)
    new_chats = [(each.hour, each.new_chats) for each in sent]
    if new_chat and (until := _below_limit_at(limit.new_chats_per_day, new_chats)):
        return _wait(f"{limit.new_chats_per_day} new chats a day", until - now, Scope.CHAT)
    return None


def _below_limit_at(limit: int | None, counts: list[tuple[datetime, int]]) -> datetime | None:
    """When enough hours are more than a day old for one more message; None: now."""
    left = sum(count for _, count in counts)
    if limit is None or left < limit:
        return None
    for hour, count in counts:
        left -= count
        if left < limit:
            return hour + _DAY
    return None


def _wait(limit: str, left: timedelta, scope: Scope) -> Retry:
    reason = f"this number may send {limit} during warm-up; `bisnesctl bots limit` changes that"
    return Retry("warming_up", reason, after=left.total_seconds(), attempts=MAX_ATTEMPTS_WARMUP, scope=scope)
