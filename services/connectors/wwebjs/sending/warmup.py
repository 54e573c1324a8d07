"""How much a young number may send: so many messages an hour and a day, and so many new chats a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.connectors.wwebjs.sending.number_lookup import HISTORY
from services.database.connection import Database, transaction
from services.message import Outgoing, Retry, Scope

#: Attempts of a message that waits for its turn: it is never given up for that.
PATIENT = 32_000
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)

_LIMIT = f"""
SELECT l.per_hour, l.per_day, l.new_chats_per_day, now(), NOT {HISTORY}
FROM phone_configs c LEFT JOIN wa_limit l ON l.bot_id = c.id WHERE c.id = %(bot)s"""
_SENT = """
SELECT hour, messages, new_chats FROM wa_sent
WHERE bot_id = %(bot)s AND hour > date_trunc('hour', now()) - interval '1 day' ORDER BY hour"""
_COUNT = """
INSERT INTO wa_sent AS s (bot_id, hour, messages, new_chats) VALUES (%(bot)s, date_trunc('hour', now()), 1, %(new)s)
ON CONFLICT (bot_id, hour) DO UPDATE SET messages = s.messages + 1, new_chats = s.new_chats + excluded.new_chats"""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a number may send; None: as much as there is."""

    per_hour: int | None = None
    per_day: int | None = None
    new_chats_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Hour:
    """What it sent in the hour that began then."""

    hour: datetime
    messages: int
    new_chats: int = 0


def wait(limit: Limit, sent: Sequence[Hour], now: datetime, new_chat: bool) -> Retry | None:
    """Why the next message must wait, and for how long; None where it need not.

    `sent`: the hours of the last day, the oldest first, this one included if anything was sent in it. An hour is one of
    the clock, a day is this hour and the 23 before it.
    """
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    in_hour = sum(each.messages for each in sent if each.hour == this_hour)
    if limit.per_hour is not None and in_hour >= limit.per_hour:
        return _retry(f"{limit.per_hour} messages an hour", this_hour + _HOUR - now, Scope.BOT)
    messages = [(each.hour, each.messages) for each in sent]
    if until := _free_again(limit.per_day, messages):
        return _retry(f"{limit.per_day} messages a day", until - now, Scope.BOT)
    new_chats = [(each.hour, each.new_chats) for each in sent]
    if new_chat and (until := _free_again(limit.new_chats_per_day, new_chats)):
        return _retry(f"{limit.new_chats_per_day} new chats a day", until - now, Scope.CHAT)
    return None


def _free_again(limit: int | None, counts: list[tuple[datetime, int]]) -> datetime | None:
    """When enough of a day's hours are past for one more; None: now."""
    left = sum(count for _, count in counts)
    if limit is None or left < limit:
        return None
    for hour, count in counts:
        left -= count
        if left < limit:
            return hour + _DAY
    return None


def _retry(limit: str, left: timedelta, scope: Scope) -> Retry:
    reason = f"this number may send {limit} while it is young; bisnesctl bots limit changes that"
    return Retry("warming_up", reason, after=left.total_seconds(), attempts=PATIENT, scope=scope)


class WarmupPace:
    """Counts what a bot sends, and holds it to its limits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def refusal(self, message: Outgoing) -> Retry | None:
        """Why the message must wait; None where it need not, and then it is counted.

        Raises `DatabaseUnavailable`, `DatabaseError`.
        """
        values = {"bot": message.bot_id, "chat": message.chat_id}
        with self._database.connection() as connection, transaction(connection) as cursor:
            cursor.execute(_LIMIT, values)
            row = cursor.fetchone()
            if row is None:  # the bot was just removed
                return None
            *limits, now, new_chat = row
            cursor.execute(_SENT, values)
            waits = wait(Limit(*limits), [Hour(*hour) for hour in cursor.fetchall()], now, new_chat)
            if waits is None:
                cursor.execute(_COUNT, values | {"new": int(new_chat)})
        return waits
