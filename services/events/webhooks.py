"""The SQL of webhooks: their registration, changes and lists, their deliveries, and replays of events.

Secrets arrive and stay encrypted; no function returns one. Lock order: event_feed, webhook, lanes, deliveries.
"""

from collections.abc import Sequence
from typing import Any

from services.database.connection import Connection, query, query_value, transaction
from services.events.names import TEST

#: Webhooks of a company, at most.
MAX_WEBHOOKS = 50
#: Events that are queued in one transaction: nobody raises any meanwhile.
REPLAY_BATCH = 500
#: Deliveries that are deleted in one statement.
DELETE_BATCH = 5000


def secret_row(webhook_id: str) -> str:
    """The row to which the secrets of a webhook are bound."""
    return f"webhook:{webhook_id}"


class TooMany(Exception):
    """The company has as many webhooks as it may."""


def _utc(column: str) -> str:
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


_SHOWN = f"""jsonb_build_object(
    'id', w.id, 'company', w.company_id, 'url', w.url, 'events', w.events, 'active', w.active,
    'pending', COALESCE((SELECT sum(pending) FROM webhook_lane WHERE webhook_id = w.id), 0),
    'failures', w.failures, 'lastError', w.last_error,
    'pausedUntil', CASE WHEN w.paused_until > now() THEN {_utc("w.paused_until")} END,
    'lastDeliveredAt', {_utc("w.last_delivered_at")},
    'previousSecretUntil', CASE WHEN w.previous_until > now() THEN {_utc("w.previous_until")} END,
    'createdAt', {_utc("w.created_at")}, 'updatedAt', {_utc("w.updated_at")})"""

_OPEN_FEED = "INSERT INTO event_feed (company_id) VALUES (%s) ON CONFLICT DO NOTHING"
_LOCK_FEED = "SELECT FROM event_feed WHERE company_id = %s FOR UPDATE"
_INSERT = f"""
WITH w AS (
    INSERT INTO webhook (id, company_id, url, events, secret_encrypted)
    SELECT %(id)s, %(company)s, %(url)s, %(events)s, %(secret)s
    WHERE (SELECT count(*) FROM webhook WHERE company_id = %(company)s) < %(most)s
    RETURNING *
)
SELECT {_SHOWN} FROM w"""
_LIST = f"SELECT {_SHOWN} FROM webhook w WHERE company_id = %s ORDER BY created_at, id"
_PAGE = f"""
SELECT {_SHOWN} FROM webhook w
WHERE (%(company)s::text IS NULL OR w.company_id = %(company)s) AND (%(after)s::uuid IS NULL OR w.id > %(after)s::uuid)
ORDER BY w.id LIMIT %(limit)s"""
_FIND = f"SELECT {_SHOWN} FROM webhook w WHERE id = %s"

# A change may have fixed a fault: waiting deliveries are tried at once.
_CHANGE = """
UPDATE webhook SET url = COALESCE(%(url)s, url), events = COALESCE(%(events)s, events),
    active = COALESCE(%(active)s, active), failures = 0, paused_until = '-infinity', updated_at = now()
WHERE id = %(id)s"""
_HURRY = """
WITH waiting AS (
    SELECT chat_id FROM webhook_lane WHERE webhook_id = %(id)s AND pending > 0 AND claim IS NULL AND due > now()
    FOR UPDATE SKIP LOCKED
)
UPDATE webhook_lane l SET due = now() FROM waiting w WHERE l.webhook_id = %(id)s AND l.chat_id = w.chat_id"""
_ROTATE = """
UPDATE webhook SET previous_encrypted = secret_encrypted, previous_until = now() + %(overlap)s * interval '1 second',
    secret_encrypted = %(secret)s, updated_at = now()
WHERE id = %(id)s"""
_SILENCE = "UPDATE webhook SET active = false WHERE id = %s"
_EMPTY = """
DELETE FROM webhook_delivery WHERE webhook_id = %(id)s AND seq IN (
    SELECT seq FROM webhook_delivery WHERE webhook_id = %(id)s LIMIT %(batch)s)"""

#: The SQL of a page of deliveries.
DELIVERIES = f"""
SELECT d.seq, jsonb_build_object(
    'eventId', d.event_id, 'event', e.name, 'chatId', NULLIF(d.chat_id, ''), 'status', d.status,
    'attempts', d.attempts, 'responseStatus', d.response_status, 'error', d.error,
    'firstTriedAt', {_utc("d.first_tried_at")},
    'createdAt', {_utc("d.created_at")}, 'updatedAt', {_utc("d.updated_at")})
FROM webhook_delivery d JOIN webhook w ON w.id = d.webhook_id
LEFT JOIN event e ON e.company_id = w.company_id AND e.seq = d.seq
WHERE d.webhook_id = %(id)s AND d.seq < %(before)s AND (%(status)s IS NULL OR d.status = %(status)s)
ORDER BY d.seq DESC LIMIT %(limit)s"""

_QUEUE = """again AS (
    INSERT INTO webhook_delivery AS d (webhook_id, chat_id, seq, event_id)
    SELECT %(id)s, chat_id, seq, event_id FROM chosen ORDER BY seq
    ON CONFLICT (webhook_id, seq) DO UPDATE SET status = 'pending', attempts = 0, first_tried_at = NULL,
        response_status = NULL, error = NULL, updated_at = now()
    WHERE d.status <> 'pending'
    RETURNING chat_id
), queued AS (
    INSERT INTO webhook_lane AS l (webhook_id, chat_id, pending)
    SELECT %(id)s, chat_id, count(*) FROM again GROUP BY chat_id ORDER BY chat_id
    ON CONFLICT (webhook_id, chat_id) DO UPDATE SET pending = l.pending + excluded.pending,
        due = CASE WHEN l.pending = 0 AND l.claim IS NULL THEN now() ELSE l.due END
)"""
_REPLAY_ONE = f"""
WITH chosen AS (
    SELECT chat_id, seq, event_id FROM event WHERE event_id = %(event)s AND company_id = %(company)s
), {_QUEUE}
SELECT (SELECT count(*) FROM again), (SELECT count(*) FROM chosen)"""
_REPLAY = f"""
WITH chosen AS (
    SELECT e.chat_id, e.seq, e.event_id FROM event e JOIN webhook w ON w.id = %(id)s
    WHERE e.company_id = %(company)s AND e.seq > %(after)s AND e.name <> '{TEST}' AND w.events && ARRAY[e.name, '*']
    ORDER BY e.seq LIMIT %(batch)s
), {_QUEUE}
SELECT (SELECT count(*) FROM again), (SELECT count(*) FROM chosen), (SELECT max(seq) FROM chosen),
       (SELECT event_id FROM chosen ORDER BY seq DESC LIMIT 1)"""
_TEST = f"""
WITH counted AS (
    UPDATE event_feed SET last_seq = last_seq + 1 WHERE company_id = %(company)s RETURNING last_seq
), chosen AS (
    INSERT INTO event (company_id, seq, event_id, name, session, chat_id, payload)
    SELECT %(company)s, last_seq, 'evt_' || new_ulid(), '{TEST}', %(company)s || '-0', '',
           jsonb_build_object('webhookId', %(id)s::text)
    FROM counted
    RETURNING chat_id, seq, event_id
), {_QUEUE}
SELECT event_id FROM chosen"""
_ATTEMPT_NOW = "UPDATE webhook SET paused_until = '-infinity' WHERE id = %s"
_LOCK_WEBHOOK = "SELECT FROM webhook WHERE id = %s FOR NO KEY UPDATE"
_ANNOUNCE = "NOTIFY bisnes_events"


def open_feed(connection: Connection, company_id: str) -> None:
    """Have the company's events kept from now on."""
    query(connection, _OPEN_FEED, (company_id,))


def register(
    connection: Connection, webhook_id: str, company_id: str, url: str, events: Sequence[str], secret: str
) -> dict[str, Any]:
    """A new webhook; `secret` is encrypted. Raises `TooMany`."""
    values = {"id": webhook_id, "company": company_id, "url": url, "events": list(events), "secret": secret}
    with transaction(connection) as cursor:
        cursor.execute(_OPEN_FEED, (company_id,))
        cursor.execute(_LOCK_FEED, (company_id,))
        cursor.execute(_INSERT, values | {"most": MAX_WEBHOOKS})
        row = cursor.fetchone()
    if row is None:
        raise TooMany(company_id)
    return dict(row[0])


def of_company(connection: Connection, company_id: str) -> list[dict[str, Any]]:
    """The company's webhooks, oldest first."""
    return [shown for (shown,) in query(connection, _LIST, (company_id,))]


def page(
    connection: Connection, company_id: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Up to `limit` webhooks of one company or all, oldest first, and the `after` of the next page if there is one."""
    values = {"company": company_id, "after": after, "limit": limit + 1}
    found = [shown for (shown,) in query(connection, _PAGE, values)]
    return found[:limit], found[limit - 1]["id"] if len(found) > limit else None


def find(connection: Connection, webhook_id: str) -> dict[str, Any] | None:
    """The webhook with this id, a uuid."""
    found: dict[str, Any] | None = query_value(connection, _FIND, (webhook_id,))
    return found


def change(
    connection: Connection, webhook_id: str, url: str | None, events: Sequence[str] | None, active: bool | None
) -> None:
    """Change the values that are not None, and try waiting deliveries at once."""
    values = {"id": webhook_id, "url": url, "events": None if events is None else list(events), "active": active}
    with transaction(connection) as cursor:
        cursor.execute(_CHANGE, values)
        cursor.execute(_HURRY, values)
        cursor.execute(_ANNOUNCE)


def rotate(connection: Connection, webhook_id: str, secret: str, overlap: float) -> None:
    """A new, encrypted secret; the old one signs as well for `overlap` seconds."""
    query(connection, _ROTATE, {"id": webhook_id, "secret": secret, "overlap": overlap})


def remove(connection: Connection, webhook_id: str, company_id: str) -> None:
    """Delete the webhook and its deliveries; transactions that raise events do not wait for most of it."""
    with connection.cursor() as cursor:
        cursor.execute(_SILENCE, (webhook_id,))
        cursor.execute(_EMPTY, {"id": webhook_id, "batch": DELETE_BATCH})
        while cursor.rowcount == DELETE_BATCH:
            cursor.execute(_EMPTY, {"id": webhook_id, "batch": DELETE_BATCH})
    with transaction(connection) as cursor:
        cursor.execute(_LOCK_FEED, (company_id,))
        cursor.execute("DELETE FROM webhook WHERE id = %s", (webhook_id,))


def deliveries(
    connection: Connection, webhook_id: str, status: str | None, before: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Up to `limit` deliveries older than `before`, newest first, and the `before` of the next page if there is one."""
    values = {"id": webhook_id, "status": status, "before": before, "limit": limit + 1}
    rows = query(connection, DELIVERIES, values)
    return [row[1] for row in rows[:limit]], rows[limit - 1][0] if len(rows) > limit else None


def replay_one(connection: Connection, webhook_id: str, company_id: str, event_id: str) -> int | None:
    """Queue one event of the company again.

    Returns how many were queued (none if it waits already), or None if the event is not kept.
    """
    values = {"id": webhook_id, "company": company_id, "event": event_id}
    queued, known = _queue(connection, _REPLAY_ONE, values)
    return int(queued) if known else None


def replay(connection: Connection, webhook_id: str, company_id: str, after: int, limit: int) -> tuple[int, str | None]:
    """Queue the events after the number `after` that the webhook asks for, up to `limit` of them, in their order.

    Returns how many of them had not been waiting, and the id of the last if there may be more.
    """
    queued, looked, last = 0, 0, None
    while looked < limit:
        batch = min(REPLAY_BATCH, limit - looked)
        values = {"id": webhook_id, "company": company_id, "after": after, "batch": batch}
        fresh, found, seq, last = _queue(connection, _REPLAY, values)
        queued, looked, after = queued + fresh, looked + found, seq
        if found < batch:
            return queued, None
    return queued, last


def test(connection: Connection, webhook_id: str, company_id: str) -> str:
    """Queue an event for this webhook alone, and call it even if it is paused; returns the event's id."""
    (event_id,) = _queue(connection, _TEST, {"id": webhook_id, "company": company_id})
    query(connection, _ATTEMPT_NOW, (webhook_id,))
    return str(event_id)


def _queue(connection: Connection, statement: str, values: dict[str, Any]) -> tuple[Any, ...]:
    with transaction(connection) as cursor:
        cursor.execute(_LOCK_FEED, (values["company"],))
        cursor.execute(_LOCK_WEBHOOK, (values["id"],))
        cursor.execute(statement, values)
        row: tuple[Any, ...] = cursor.fetchone()
        cursor.execute(_ANNOUNCE)
    return row
