"""Dead letters: messages, webhooks of both directions and files that failed and are kept for an operator."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2 import DataError

from bisnesctl.database import retries
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import UsageError

MESSAGES = "messages"
UNKNOWN = "unknown"
WEBHOOKS_IN = "webhooks-in"
WEBHOOKS_OUT = "webhooks-out"
MEDIA = "media"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One item that failed. Its time is a text from the database."""

    kind: str
    id: str  # the UUID of a message, the number of a webhook, or an event (evt_…), which several webhooks may share
    company: str | None
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetterDetails(DeadLetter):
    """A dead letter with all its details."""

    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Parts of the SQL that reads the dead letters of a kind."""

    id: str
    company: str
    at: str
    reason: str
    rows: str
    named: str  # whether a row is the one with this id
    details: str  # jsonb
    listed: str = ""  # the rows of a list, if they are read in another way


_MESSAGE = _Kind(
    id="o.message_id::text",
    company="o.company_id",
    at="f.failed_at",
    reason="concat_ws(': ', o.error_code, o.error)",
    rows="failed_message f JOIN outbox o USING (bot_id, chat_id, id) WHERE o.status = 'failed'",
    named="o.message_id = %(id)s::uuid",
    details="""jsonb_build_object('phone', o.phone_index, 'chat', o.chat_id, 'type', o.kind, 'payload', o.payload,
        'attempts', o.attempts, 'providerId', o.provider_id, 'timeline', o.timeline)""",
)
_KINDS = {
    MESSAGES: replace(
        _MESSAGE,
        # PostgreSQL expects one row of a join on three columns. With OFFSET it looks up the newest ones, one by one.
        listed="""failed_message f CROSS JOIN LATERAL (SELECT * FROM outbox m WHERE m.bot_id = f.bot_id
            AND m.chat_id = f.chat_id AND m.id = f.id AND m.status = 'failed' OFFSET 0) o WHERE true""",
    ),
    # Whose outcome should have been reported by now.
    UNKNOWN: replace(
        _MESSAGE,
        at="o.updated_at",
        rows="""unknown_message u JOIN outbox o USING (message_id)
            WHERE o.status = 'unknown' AND u.since < now() - interval '5 minutes'""",
    ),
    WEBHOOKS_IN: _Kind(
        id="i.id::text",
        company="c.company_id",
        at="i.processed_at",
        reason="i.error",
        rows="webhook_inbox i LEFT JOIN phone_configs c ON c.id = i.bot_id WHERE i.error IS NOT NULL",
        named="i.id = %(id)s::bigint",
        details="""jsonb_build_object('process', i.process_name, 'receivedAt', i.received_at, 'phone', c.phone_index,
            'body', encode(i.body, 'hex'))""",
    ),
    WEBHOOKS_OUT: _Kind(
        id="d.event_id",
        company="w.company_id",
        at="d.updated_at",
        reason="COALESCE(d.error, 'HTTP ' || d.response_status, '')",
        rows="""webhook_delivery d JOIN webhook w ON w.id = d.webhook_id
            LEFT JOIN event e ON e.company_id = w.company_id AND e.seq = d.seq WHERE d.status = 'dead'""",
        named="d.event_id = %(id)s",
        details="""jsonb_build_object('webhook', w.id, 'url', w.url, 'event', e.name, 'chat', d.chat_id,
            'payload', e.payload, 'attempts', d.attempts, 'responseStatus', d.response_status)""",
    ),
    MEDIA: _Kind(
        id="m.message_id::text",
        company="m.company_id",
        at="COALESCE(m.tried_at, m.created_at)",
        reason="COALESCE(m.error, '')",
        rows="media_download m LEFT JOIN messages h ON h.id = m.message_id WHERE m.due = 'infinity'",
        named="m.message_id = %(id)s::uuid",
        details="""jsonb_build_object('phone', h.phone_index, 'chat', h.chat_id, 'providerId', h.external_id,
            'media', m.media, 'attempts', m.attempts)""",
    ),
}
KINDS = tuple(_KINDS)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)

_RETRY_IN = "UPDATE webhook_inbox SET processed_at = NULL, error = NULL WHERE id = %(id)s AND error IS NOT NULL"
_RETRY_MEDIA = """
UPDATE media_download SET due = now(), attempts = 0, error = NULL
WHERE message_id = %(id)s::uuid AND due = 'infinity'"""
# All code locks in this order: feeds, webhooks, lanes, deliveries.
_LOCK_FEED = """
SELECT FROM event_feed WHERE company_id = (SELECT company_id FROM event WHERE event_id = %(id)s) FOR UPDATE"""
_LOCK_WEBHOOKS = """
SELECT FROM webhook WHERE id IN (
    SELECT d.webhook_id FROM webhook_delivery d JOIN event e USING (event_id) WHERE d.event_id = %(id)s)
ORDER BY id FOR NO KEY UPDATE"""
_LOCK_LANES = """
SELECT FROM webhook_lane WHERE (webhook_id, chat_id) IN (
    SELECT webhook_id, chat_id FROM webhook_delivery WHERE event_id = %(id)s AND status = 'dead')
ORDER BY webhook_id, chat_id FOR UPDATE"""
_RETRY_OUT = """
WITH again AS (
    UPDATE webhook_delivery SET status = 'pending', attempts = 0, first_tried_at = NULL, response_status = NULL,
        error = NULL, updated_at = now()
    WHERE event_id = %(id)s AND status = 'dead' AND EXISTS (SELECT FROM event WHERE event_id = %(id)s)
    RETURNING webhook_id, chat_id
)
INSERT INTO webhook_lane AS l (webhook_id, chat_id, pending)
SELECT webhook_id, chat_id, 1 FROM again ORDER BY webhook_id, chat_id
ON CONFLICT (webhook_id, chat_id) DO UPDATE SET pending = l.pending + 1,
    due = CASE WHEN l.claim IS NULL THEN now() ELSE l.due END"""


_ORDER = "ORDER BY at DESC, kind DESC, id DESC LIMIT %(limit)s"


def find(
    connection: Connection, limit: int, kind: str | None = None, company: str | None = None, after: str = ""
) -> tuple[list[DeadLetter], str]:
    """The newest dead letters of one kind or all, at most `limit`, and the place after which more follow, or nothing.

    `after`: such a place. A webhook of Meta that could not be parsed belongs to no company, so `company` excludes it.
    """
    at, _, place = after.partition(" ")
    known, _, letter_id = place.partition(" ")
    values = {"company": company, "limit": limit + 1, "at": at or None, "kind": known, "id": letter_id}
    try:
        rows = query(connection, statement(kind), values)
    except DataError:
        raise UsageError(f"{after!r} is no place among dead letters") from None
    found = [DeadLetter(name, number, owner, _moment(at), reason) for name, number, owner, at, reason in rows[:limit]]
    if len(rows) <= limit:
        return found, ""
    name, number, _, last, _ = rows[limit - 1]
    return found, f"{last.isoformat()} {name} {number}"


def statement(kind: str | None = None) -> str:
    """The SQL of a page of one kind or all."""
    parts = [
        f"(SELECT '{name}' AS kind, {of.id} AS id, {of.company}, {of.at} AS at, {of.reason} FROM {of.listed or of.rows}"
        f" AND (%(company)s IS NULL OR {of.company} = %(company)s) AND (%(at)s::timestamptz IS NULL"
        f" OR {of.at} <= %(at)s::timestamptz"  # read from an index, which the next condition is not
        f" AND ({of.at}, '{name}', {of.id}) < (%(at)s::timestamptz, %(kind)s, %(id)s)) {_ORDER})"
        for name, of in _KINDS.items()
        if kind in (None, name)
    ]
    return f"SELECT * FROM ({' UNION ALL '.join(parts)}) found {_ORDER}"


def find_by_id(connection: Connection, letter_id: str) -> list[DeadLetterDetails]:
    """The dead letters with an id: several if the same event failed for several webhooks.

    Raises `UsageError` if there is none.
    """
    found = []
    for kind in _kinds_of(letter_id):
        of = _KINDS[kind]
        statement = (
            f"SELECT {of.id}, {of.company}, {of.at}, {of.reason}, {of.details} FROM {of.rows} AND {of.named}"
            f" ORDER BY {of.at}"
        )
        for number, company, at, reason, details in query(connection, statement, {"id": letter_id}):
            found.append(DeadLetterDetails(kind, number, company, _moment(at), reason, _readable(details)))
    if not found:
        raise UsageError(f"there is no dead letter {letter_id}: `bisnesctl dead-letters list` shows all with their ids")
    return found


def retry(connection: Connection, letter_ids: Sequence[str]) -> tuple[list[DeadLetterDetails], list[str]]:
    """Retries these; returns those that are retried, and the reasons why others are not."""
    retried: list[DeadLetterDetails] = []
    refused: list[str] = []
    for letter_id in dict.fromkeys(letter_ids):
        try:
            with connection:
                retried += _retry(connection, letter_id)
        except UsageError as error:
            refused.append(str(error))
    return retried, refused


def _retry(connection: Connection, letter_id: str) -> list[DeadLetterDetails]:
    letters = find_by_id(connection, letter_id)
    kind = letters[0].kind
    if kind == UNKNOWN:
        raise UsageError(
            f"message {letter_id} may have been sent: ask the recipient, then decide with"
            f" `bisnesctl dead-letters resolve --as sent|failed|again {letter_id}`"
        )
    if kind == MESSAGES:
        if refusal := retries.refusal_of(connection, letter_id):
            raise UsageError(f"message {letter_id} is not retried: {refusal}")
        retries.retry(connection, [letter_id])
        return letters
    if kind == WEBHOOKS_OUT:
        if any(letter.details["event"] is None for letter in letters):
            raise UsageError(f"event {letter_id} was deleted after EVENTS_KEEP_DAYS and cannot be delivered again")
        for statement in (_LOCK_FEED, _LOCK_WEBHOOKS, _LOCK_LANES, _RETRY_OUT, "NOTIFY bisnes_events"):
            query(connection, statement, {"id": letter_id})
    else:
        query(connection, _RETRY_IN if kind == WEBHOOKS_IN else _RETRY_MEDIA, {"id": letter_id})
    return letters


def _kinds_of(letter_id: str) -> tuple[str, ...]:
    if _UUID.fullmatch(letter_id):
        return MESSAGES, UNKNOWN, MEDIA
    if _NUMBER.fullmatch(letter_id):
        return (WEBHOOKS_IN,)
    return (WEBHOOKS_OUT,) if letter_id.startswith("evt_") else ()


def _moment(at: Any) -> str:
    return at.isoformat(" ", "seconds") if at is not None else "-"


def _readable(details: dict[str, Any]) -> dict[str, Any]:
    """Details with the body of a webhook as text."""
    return details | {"body": bytes.fromhex(details["body"]).decode(errors="replace")} if "body" in details else details
