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

import orjson

from services.connector import Refusal
from services.connectors.wwebjs.browser.page import CallFailed, Page
from services.connectors.wwebjs.translation import errors
from services.connectors.wwebjs.translation.connector import page_id
from services.database.connection import Database, Statement, run
from services.message import Outgoing, Rejected, Retry, Scope, Unavailable
from services.outbox.keyed_claims import SpareIds

#: How long after "not found" a number is looked up again: wa-js returns the same if the look-up itself failed, and
#: caches its answer for 15 seconds (WA-JS source, `queryWidExists`).
CONFIRM_NOT_FOUND_SECONDS = 16.0
#: Attempts of a message to a number that was not found.
MAX_ATTEMPTS_NOT_FOUND = 20
#: Attempts of a message during warm-up, which never fails for that reason.
MAX_ATTEMPTS_WARMUP = 32_000
#: Maximum number of remembered numbers that were not found once.
MAX_REMEMBERED = 10_000

Row = dict[str, Any]
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

#: Whether there ever was a message in a chat, in either direction.
_HISTORY = """(
    EXISTS (SELECT FROM chat h WHERE h.bot_id = c.id AND h.chat_id = t.chat_id)
    OR EXISTS (SELECT FROM messages m WHERE m.company_id = c.company_id AND m.phone_index = c.phone_index
               AND m.contact_id = c.company_id || '-' || split_part(t.chat_id, '@', 1)))"""
# The database's knowledge of a bot and of some chats; a row for each chat.
_KNOWLEDGE = Statement(
    "send_knowledge",
    f"""
SELECT t.chat_id, n.registered, {_HISTORY}, now(), l.per_hour, l.per_day, l.new_chats_per_day, s.hours, s.messages,
       s.new_chats
FROM phone_configs c LEFT JOIN wa_limit l ON l.bot_id = c.id CROSS JOIN unnest(%(chats)s::text[]) AS t (chat_id)
LEFT JOIN wa_number n ON n.bot_id = c.id AND n.chat_id = t.chat_id
    AND (n.registered OR n.checked_at > now() - interval '1 day')
CROSS JOIN (
    SELECT array_agg(hour ORDER BY hour) AS hours, array_agg(messages ORDER BY hour) AS messages,
           array_agg(new_chats ORDER BY hour) AS new_chats
    FROM wa_sent WHERE bot_id = %(bot)s AND hour > date_trunc('hour', now()) - interval '1 day') s
WHERE c.id = %(bot)s""",
    bot="int", chats="text[]",
)  # fmt: skip

# The results of look-ups, the count of what leaves now, and the keys of it.
_ADMIT = Statement(
    "admit_sends",
    """
WITH numbers AS (
    INSERT INTO wa_number (bot_id, chat_id, registered)
    SELECT %(bot)s, chat_id, registered FROM json_to_recordset(%(numbers)s::json) AS n (chat_id text, registered bool)
    ORDER BY chat_id
    ON CONFLICT (bot_id, chat_id) DO UPDATE SET registered = excluded.registered, checked_at = now()
), counted AS (
    INSERT INTO wa_sent AS s (bot_id, hour, messages, new_chats)
    SELECT %(bot)s, date_trunc('hour', now()), %(messages)s, %(new_chats)s WHERE %(messages)s > 0
    ON CONFLICT (bot_id, hour) DO UPDATE
        SET messages = s.messages + excluded.messages, new_chats = s.new_chats + excluded.new_chats
), keys AS (
    SELECT * FROM json_to_recordset(%(keys)s::json) AS k (chat_id text, id bigint, message_id uuid, key text)
    ORDER BY chat_id, id
), known AS (
    INSERT INTO wa_key (bot_id, key_id, message_id)
    SELECT %(bot)s, split_part(key, '_', 3), message_id FROM keys WHERE key IS NOT NULL ON CONFLICT DO NOTHING
)
UPDATE outbox o SET provider_id = k.key FROM keys k
WHERE o.bot_id = %(bot)s AND o.chat_id = k.chat_id AND o.id = k.id""",
    bot="int", numbers="json", keys="json", messages="int", new_chats="int",
)  # fmt: skip


class DatabaseSendGuard:
    """The `page_sends.SendGuard` of a session. It belongs to the thread of the browser loop."""

    def __init__(
        self,
        database: Database,
        confirm_seconds: float = CONFIRM_NOT_FOUND_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        spare_ids: SpareIds | None = None,
    ) -> None:
        """`confirm_seconds`: how long after "not found" a number is looked up again.

        `spare_ids`: gets ids for keys of later messages.
        """
        self._database = database
        self._confirm_seconds = confirm_seconds
        self._clock = clock
        self._spare_ids = spare_ids
        # When chats (bot and chat id) were not found for the first time.
        self._first_missed: dict[tuple[int, str], float] = {}

    def admit(self, page: Page, messages: Sequence[Outgoing]) -> dict[int, str | Refusal]:
        """Each number must be on WhatsApp, and the bot within its warm-up limits. A message then gets a new key."""
        knowledge = self._knowledge(messages)
        found: dict[int, str | Refusal] = {
            message.id: _not_on_whatsapp(message.chat_id) for message in messages if knowledge.is_absent(message)
        }
        asked = [message for message in messages if message.id not in found]
        looked_up: dict[str, bool] = {}
        for message, answer in zip(asked, self._ask(page, knowledge, asked), strict=True):
            key = self._read(message, answer, knowledge, looked_up)
            found[message.id] = (knowledge.count(message) or key) if isinstance(key, str) else key
        keys = [_key_row(message, key) for message in asked if isinstance(key := found[message.id], str)]
        if keys or looked_up:
            self._store(messages[0].bot_id, keys, knowledge, looked_up)
        return found

    def reserve(self, message: Outgoing, key: str | None) -> None:
        """Store the key in the outbox, for the next process that claims the message."""
        self._write(message.bot_id, [_key_row(message, key)])

    def _knowledge(self, messages: Sequence[Outgoing]) -> "_Knowledge":
        values = {"bot": messages[0].bot_id, "chats": [message.chat_id for message in messages]}
        with self._database.connection() as connection:
            return _Knowledge(run(connection, (_KNOWLEDGE, values)))

    def _ask(self, page: Page, knowledge: "_Knowledge", messages: list[Outgoing]) -> list[dict[str, Any]]:
        """The page's answers: whether a number that is not known is on WhatsApp, and a key."""
        if not messages:
            return []
        chats = [(page_id(message.chat_id), not knowledge.is_registered(message)) for message in messages]
        try:
            answer = page.call_directly("__wa.admitAll", chats, self._spare_ids.missing if self._spare_ids else 0)
        except CallFailed as failed:
            error = {"code": failed.code, "message": failed.message}
            return [{"found": None if unknown else True, **error} for _, unknown in chats]
        if self._spare_ids is not None:
            self._spare_ids.add(answer["spareIds"])
        answers: list[dict[str, Any]] = answer["messages"]
        return answers

    def _read(
        self, message: Outgoing, answer: dict[str, Any], knowledge: "_Knowledge", looked_up: dict[str, bool]
    ) -> str | Refusal:
        """The key in an answer of the page, or the refusal. Notes in `looked_up` the numbers that are certain now."""
        if answer["found"] is None:
            reason = f"the number could not be looked up on WhatsApp: {answer['message']}"
            return Unavailable("number_check", reason, chargeable=True, scope=Scope.CHAT)
        if not knowledge.is_registered(message):
            if not answer["found"] and (left := self._seconds_until_confirmed(message)) > 0:
                reason = "WhatsApp did not find the number; it is looked up again before the message fails"
                return Retry("number_check", reason, after=left, attempts=MAX_ATTEMPTS_NOT_FOUND)
            looked_up[message.chat_id] = answer["found"]
            if not answer["found"]:
                return _not_on_whatsapp(message.chat_id)
        if "message" in answer:
            return errors.classify(answer["code"], answer["message"])
        return str(answer["key"])

    def _store(self, bot_id: int, keys: list[Row], knowledge: "_Knowledge", looked_up: dict[str, bool]) -> None:
        """Write all that is new, in one commit."""
        numbers = [{"chat_id": chat, "registered": found} for chat, found in looked_up.items()]
        self._write(bot_id, keys, numbers, knowledge.counted, knowledge.counted_chats)
        for chat in looked_up:
            self._first_missed.pop((bot_id, chat), None)

    def _write(
        self, bot_id: int, keys: list[Row], numbers: Sequence[Row] = (), messages: int = 0, new_chats: int = 0
    ) -> None:
        values = {"numbers": orjson.dumps(list(numbers)).decode(), "keys": orjson.dumps(keys).decode()}
        counts = {"messages": messages, "new_chats": new_chats}
        with self._database.connection() as connection:
            run(connection, (_ADMIT, {"bot": bot_id} | values | counts))

    def _seconds_until_confirmed(self, message: Outgoing) -> float:
        chat = (message.bot_id, message.chat_id)
        if chat not in self._first_missed:
            self._first_missed[chat] = self._clock()
            if len(self._first_missed) > MAX_REMEMBERED:
                del self._first_missed[next(iter(self._first_missed))]
        return self._first_missed[chat] + self._confirm_seconds - self._clock()


class _Knowledge:
    """The database's knowledge of a bot and of the chats of a batch, and the counts that the batch adds to."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        """`rows`: those of `_KNOWLEDGE`; none if the bot was just removed."""
        self._chats = {chat: (registered, history) for chat, registered, history, *_ in rows}
        self.counted = self.counted_chats = 0  # messages that leave now, and those of them to new chats
        if rows:
            now, *limits = rows[0][3:7]
            hours, messages, new_chats = (column or [] for column in rows[0][7:])
            self._now: datetime | None = now
            self._limit = WarmupLimit(*limits)
            self._sent = [SentInHour(*each) for each in zip(hours, messages, new_chats, strict=True)]
        else:
            self._now = None

    def is_absent(self, message: Outgoing) -> bool:
        """Whether the number is certainly not on WhatsApp."""
        registered, _ = self._chats.get(message.chat_id, (None, False))
        return message.chat_id.isdigit() and registered is False

    def is_registered(self, message: Outgoing) -> bool:
        """Whether the chat needs no look-up."""
        registered, history = self._chats.get(message.chat_id, (None, False))
        return not message.chat_id.isdigit() or bool(registered) or history

    def count(self, message: Outgoing) -> Retry | None:
        """Count a message of this batch; if it must wait, return why instead."""
        if self._now is None:
            return None
        _, history = self._chats[message.chat_id]
        new_chat = not history
        this_hour = self._now.replace(minute=0, second=0, microsecond=0)
        sent = [*self._sent, SentInHour(this_hour, self.counted, self.counted_chats)]
        if retry := warmup_retry(self._limit, sent, self._now, new_chat):
            return retry
        self.counted += 1
        self.counted_chats += new_chat
        return None


def _key_row(message: Outgoing, key: str | None) -> Row:
    return {"chat_id": message.chat_id, "id": message.id, "message_id": message.message_id, "key": key}


def _not_on_whatsapp(number: str) -> Rejected:
    return Rejected("not_on_whatsapp", f"{number} is not on WhatsApp; check the number with its country code")


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
