"""Retries failed messages: those that were certainly not sent and failed for a temporary reason.

Each returns to its place in its chat, before messages that were accepted later and are not sent yet.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from bisnesctl.database.postgres import Connection, query
from bisnesctl.database.transient_errors import CODES, GAVE_UP_PATTERN, is_transient
from bisnesctl.errors import UsageError

#: Messages in one transaction.
MESSAGES_PER_TRANSACTION = 500

_FAILED = """
SELECT o.message_id::text, o.error_code, o.error, o.provider_id IS NOT NULL, c.id IS NULL
FROM outbox o LEFT JOIN phone_configs c ON c.id = o.bot_id AND c.company_id = o.company_id
WHERE o.status = 'failed'"""
_BY_ID = f"{_FAILED} AND o.message_id = ANY(%s::uuid[])"
_BY_FILTER = f"""{_FAILED} AND (%(code)s IS NULL OR o.error_code = %(code)s)
    AND (%(company)s IS NULL OR o.company_id = %(company)s) AND (%(phone)s IS NULL OR o.phone_index = %(phone)s)
    AND (%(since)s IS NULL OR o.updated_at >= {{since}}) AND (%(until)s IS NULL OR o.updated_at <= {{until}})
ORDER BY COALESCE(o.provider_id IS NULL AND (o.error_code = ANY(%(codes)s) OR o.error ~ %(gave_up)s), false) DESC, o.id
LIMIT %(limit)s"""

# Lanes are locked first, as everywhere.
_AGAIN = """
WITH chosen AS (
    SELECT o.bot_id, o.chat_id, o.id FROM outbox o WHERE o.message_id = ANY(%(ids)s::uuid[])
), lanes AS (
    SELECT l.bot_id, l.chat_id FROM lane l JOIN (SELECT DISTINCT bot_id, chat_id FROM chosen) c USING (bot_id, chat_id)
    ORDER BY l.bot_id, l.chat_id FOR UPDATE OF l
), again AS (
    UPDATE outbox o SET status = 'queued', attempts = 0, error_code = NULL, error = NULL, updated_at = now(),
        timeline = o.timeline || jsonb_build_array(jsonb_build_object(
            'status', 'queued', 'at', now(), 'code', 'retried', 'error', 'retried by an operator'))
    FROM chosen f JOIN lanes USING (bot_id, chat_id)
    WHERE o.bot_id = f.bot_id AND o.chat_id = f.chat_id AND o.id = f.id
        AND CASE WHEN %(unknown)s THEN o.status = 'unknown' ELSE o.status = 'failed' AND o.provider_id IS NULL END
    RETURNING o.bot_id, o.chat_id, o.id, o.message_id
), reopened AS (
    UPDATE lane l SET pending = l.pending + a.n, done = reopened_at(l.done, l.head, a.first),
        due = CASE WHEN l.claim IS NULL THEN now() ELSE l.due END
    FROM (SELECT bot_id, chat_id, count(*) AS n, min(id) AS first FROM again GROUP BY bot_id, chat_id) a
    WHERE l.bot_id = a.bot_id AND l.chat_id = a.chat_id
), settled AS (
    DELETE FROM unknown_message WHERE message_id IN (SELECT message_id FROM again)
)
SELECT message_id::text FROM again"""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """A filter of messages that failed or are unknown. Times are of when they became so.

    A time is `2h` (ago), or 2026-01-31T08:00 in the database's zone.
    """

    code: str | None = None
    company: str | None = None
    phone: int | None = None
    since: str | None = None
    until: str | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class RetryChoice:
    """The messages that may be retried, and why the others may not."""

    ids: list[str]
    refused: Counter[str] = field(default_factory=Counter)  # by reason


def choose(connection: Connection, wanted: MessageFilter) -> RetryChoice:
    """The failed messages that match: first those that may be retried, oldest first.

    Raises `UsageError` for an invalid time.
    """
    statement = _BY_FILTER.format(since=moment("since", wanted.since), until=moment("until", wanted.until))
    values = asdict(wanted) | {"codes": list(CODES), "gave_up": GAVE_UP_PATTERN}
    choice = RetryChoice([])
    for message_id, refusal in _judged(query(connection, statement, values)):
        if refusal is None:
            choice.ids.append(message_id)
        else:
            choice.refused[refusal] += 1
    return choice


def refusal_of(connection: Connection, message_id: str) -> str | None:
    """Why a failed message may not be retried; None if it may."""
    return next((refusal for _, refusal in _judged(query(connection, _BY_ID, ([message_id],)))), None)


def retry(connection: Connection, message_ids: Sequence[str], unknown: bool = False) -> list[str]:
    """Queues failed messages, or unknown ones, again; returns their ids. Those that changed meanwhile are skipped."""
    found: list[str] = []
    for start in range(0, len(message_ids), MESSAGES_PER_TRANSACTION):
        values = {"ids": list(message_ids[start : start + MESSAGES_PER_TRANSACTION]), "unknown": unknown}
        found += [row[0] for row in query(connection, _AGAIN, values)]
    return found


def parse_bot(text: str) -> tuple[str, int]:
    """The company and the phone index in `0128/0`. Raises `UsageError`."""
    company, _, phone = text.rpartition("/")
    if not company or not (phone.isascii() and phone.isdigit() and len(phone) < 10):
        raise UsageError(f"--bot {text}: name a company and a phone index, such as 0128/0")
    return company, int(phone)


def _judged(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, str | None]]:
    for message_id, code, error, accepted, removed in rows:
        yield message_id, refusal(code, error, accepted, removed)


def refusal(code: str | None, error: str | None, accepted: bool, removed: bool) -> str | None:
    """Why a failed message may not be retried; None if it may. `accepted`: by its provider; `removed`: its bot was."""
    if removed:
        return "its bot was removed: send it as a new message"
    if accepted:
        return f"the provider accepted it and reported later that it failed ({code}): send it as a new message"
    if not is_transient(code, error):
        return f"it was refused permanently ({code}): correct it and send it as a new message"
    return None


def moment(option: str, text: str | None) -> str:
    """SQL for a time that was given with an option. Raises `UsageError`."""
    if text is None:
        return "NULL"
    if ago := _AGO.fullmatch(text):
        return f"now() - interval '{int(ago[1]) * _UNITS[ago[2]]} seconds'"
    with contextlib.suppress(ValueError):
        return f"'{datetime.fromisoformat(text).isoformat()}'::timestamptz"
    raise UsageError(f"--{option} {text}: a time such as 2h, 30m, 1d (ago) or 2026-01-31T08:00")
