"""The SQL of delivering events: the due lanes, their next events, the results.

A lane has one webhook's events of one chat. It is claimed, so that its events leave one after the other. Locks are
taken in this order: event_feed, webhooks by their id, lanes, deliveries. Claiming and recording skip lanes that others
have locked, and so never wait for a transaction that raises events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson
import structlog

from bisnesctl.backoff import Backoff
from services.database.connection import (
    Connection,
    query,
    query_value,
    transaction,
)

#: The channel on which `raise_events` announces new events.
CHANNEL = "bisnes_events"
#: Calls of one webhook at a time, at most; while it fails, one.
MAX_CALLS_OF_WEBHOOK = 4
#: Seconds after which a lane without a delivery is looked at again.
EMPTY_LANE_SECONDS = 60
#: The pauses between the attempts of an event, and between the calls of a webhook that fails.
BACKOFF = Backoff(first_seconds=1, growth=2, longest_seconds=900, jitter=0.5)

log = structlog.get_logger()

# Webhooks in a random order, so that none is always served last if there is more to do than room.
_CLAIM = """
WITH held AS (
    SELECT webhook_id, count(*) AS held FROM webhook_lane WHERE claim IS NOT NULL AND due > now() GROUP BY webhook_id
), ready AS (
    SELECT w.id, CASE WHEN w.failures > 0 THEN 1 ELSE %(each)s END
               - COALESCE((SELECT held FROM held WHERE webhook_id = w.id), 0) AS room
    FROM webhook w
    WHERE w.active AND w.paused_until <= now() AND EXISTS (
        SELECT FROM webhook_lane l WHERE l.webhook_id = w.id AND l.pending > 0 AND l.due <= now())
    ORDER BY random() FOR NO KEY UPDATE OF w SKIP LOCKED
), picked AS (
    SELECT l.* FROM ready r CROSS JOIN LATERAL (
        SELECT webhook_id, chat_id FROM webhook_lane
        WHERE webhook_id = r.id AND pending > 0 AND due <= now()
        ORDER BY due LIMIT GREATEST(r.room, 0) FOR UPDATE SKIP LOCKED) l
    LIMIT %(limit)s
)
UPDATE webhook_lane l SET claim = %(sender)s, due = now() + %(lease)s * interval '1 second'
FROM picked p WHERE l.webhook_id = p.webhook_id AND l.chat_id = p.chat_id
RETURNING l.webhook_id::text, l.chat_id"""

_NEXT_DUE = """
SELECT extract(epoch FROM min(GREATEST(l.due, w.paused_until)) - now())::float
FROM webhook w CROSS JOIN LATERAL (
    SELECT due FROM webhook_lane WHERE webhook_id = w.id AND pending > 0 ORDER BY due LIMIT 1) l
WHERE w.active"""

# A statement of its own: it sees later data than the claim, so no delivered event is seen as pending.
_HEADS = """
SELECT g.webhook_id, g.chat_id, d.seq, d.event_id, d.attempts, w.url, w.secret_encrypted,
       CASE WHEN w.previous_until > now() THEN w.previous_encrypted END, w.company_id, e.name, e.session,
       floor(extract(epoch FROM e.created_at) * 1000)::bigint, e.payload::text
FROM unnest(%s::text[], %s::text[]) AS g (webhook_id, chat_id)
JOIN webhook w ON w.id = g.webhook_id::uuid
LEFT JOIN LATERAL (
    SELECT seq, event_id, attempts FROM webhook_delivery
    WHERE webhook_id = w.id AND chat_id = g.chat_id AND status = 'pending' ORDER BY seq LIMIT 1) d ON true
LEFT JOIN event e ON e.company_id = w.company_id AND e.seq = d.seq"""

_LOCK_WEBHOOKS = "SELECT FROM webhook WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE"

# Several failures of one pause count as one: the calls were under way together. The first failure does not pause.
_RECORD = f"""
WITH r AS (
    SELECT * FROM json_to_recordset(%(results)s::json) AS r (
        webhook_id uuid, chat_id text, seq bigint, outcome text, called boolean, tried boolean, status int, error text)
), mine AS (
    SELECT l.webhook_id, l.chat_id FROM webhook_lane l JOIN r USING (webhook_id, chat_id)
    WHERE l.claim = %(sender)s FOR UPDATE OF l SKIP LOCKED
), recorded AS (
    UPDATE webhook_delivery d SET
        attempts = d.attempts + r.tried::int, response_status = r.status, error = r.error, updated_at = now(),
        first_tried_at = COALESCE(d.first_tried_at, now()),
        status = CASE WHEN r.outcome = 'pending' AND d.first_tried_at < now() - interval '1 day' THEN 'dead'
                      ELSE r.outcome END
    FROM r JOIN mine USING (webhook_id, chat_id)
    WHERE d.webhook_id = r.webhook_id AND d.seq = r.seq AND d.status = 'pending'
    RETURNING d.*
), freed AS (
    UPDATE webhook_lane l SET
        claim = NULL, pending = l.pending - CASE WHEN t.status <> 'pending' THEN 1 ELSE 0 END,
        due = now() + interval '1 second'
            * CASE WHEN t.status = 'pending' THEN {BACKOFF.sql("t.attempts")} ELSE 0 END
    FROM mine m LEFT JOIN recorded t USING (webhook_id, chat_id)
    WHERE l.webhook_id = m.webhook_id AND l.chat_id = m.chat_id
), judged AS (
    SELECT webhook_id, bool_or(outcome = 'delivered') AS works, max(error) AS error
    FROM r JOIN mine USING (webhook_id, chat_id) WHERE called GROUP BY webhook_id
), working AS (
    UPDATE webhook w SET failures = 0, paused_until = '-infinity', last_error = NULL, last_delivered_at = now()
    FROM judged j WHERE w.id = j.webhook_id AND j.works
), failing AS (
    UPDATE webhook w SET
        last_error = j.error,
        failures = w.failures + CASE WHEN w.paused_until <= now() THEN 1 ELSE 0 END,
        paused_until = CASE WHEN w.paused_until <= now() AND w.failures > 0
            THEN now() + interval '1 second' * {BACKOFF.sql("w.failures")} ELSE w.paused_until END
    FROM judged j WHERE w.id = j.webhook_id AND NOT j.works
)
SELECT l.webhook_id::text, l.chat_id FROM webhook_lane l JOIN r USING (webhook_id, chat_id)
WHERE l.claim = %(sender)s AND NOT EXISTS (
    SELECT FROM mine m WHERE m.webhook_id = l.webhook_id AND m.chat_id = l.chat_id)"""

_RELEASE = """
WITH left_over AS (
    SELECT webhook_id, chat_id FROM webhook_lane WHERE claim IS NOT NULL AND starts_with(claim, %(prefix)s)
    FOR UPDATE SKIP LOCKED
)
UPDATE webhook_lane l SET claim = NULL, due = now() + %(after)s * interval '1 second'
FROM left_over o WHERE l.webhook_id = o.webhook_id AND l.chat_id = o.chat_id"""
_CLAIMED = "SELECT count(*) FROM webhook_lane WHERE claim IS NOT NULL AND starts_with(claim, %s)"
_DEFER = """
UPDATE webhook_lane SET claim = NULL, due = now() + %s * interval '1 second'
WHERE webhook_id = %s AND chat_id = %s AND claim = %s"""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as the customer receives it."""

    event_id: str  # evt_<ulid>
    timestamp: int  # milliseconds since the epoch
    name: str
    session: str  # <companyId>-<phoneIndex>
    company_id: str
    payload: str  # JSON

    def envelope(self) -> bytes:
        """The JSON that is sent, the same at each attempt."""
        return orjson.dumps(
            {
                "id": self.event_id,
                "timestamp": self.timestamp,
                "event": self.name,
                "session": self.session,
                "company": self.company_id,
                "payload": orjson.Fragment(self.payload),
            }
        )


@dataclass(frozen=True, slots=True)
class Task:
    """The next event of a claimed lane; `event` is None if it is no longer kept."""

    webhook_id: str
    chat_id: str
    seq: int
    attempts: int  # that ended before
    url: str
    secret: str  # encrypted, as the next one
    previous_secret: str | None
    event: Event | None


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a task.

    `called`: the webhook was called, so that the result says something of it as well; `tried`: it is an attempt.
    """

    webhook_id: str
    chat_id: str
    seq: int
    outcome: Literal["delivered", "pending", "dead"]
    called: bool = True
    tried: bool = True
    status: int | None = None  # of HTTP
    error: str | None = None


def claim(
    connection: Connection, sender: str, lease: float, limit: int, each: int = MAX_CALLS_OF_WEBHOOK
) -> list[Task]:
    """Claim the next event of up to `limit` lanes, of each webhook as many as leave at most `each` in hand.

    `lease`: seconds after which another sender may claim what was not recorded.
    """
    values = {"sender": sender, "lease": lease, "limit": limit, "each": each}
    lanes = query(connection, _CLAIM, values)
    if not lanes:
        return []
    tasks = []
    for row in query(connection, _HEADS, ([webhook for webhook, _ in lanes], [chat for _, chat in lanes])):
        webhook, chat, seq, event_id, attempts, url, secret, previous, company, name, session, at, payload = row
        if seq is None:  # which should not happen: the lane must not be claimed again and again
            query(connection, _DEFER, (EMPTY_LANE_SECONDS, webhook, chat, sender))
            continue
        event = None if name is None else Event(event_id, at, name, session, company, payload)
        tasks.append(Task(webhook, chat, seq, attempts, url, secret, previous, event))
    return tasks


def next_due(connection: Connection) -> float | None:
    """Seconds until the next event is due, negative if one is; None if none waits. Those that others hold are due when
    their lease ends."""
    seconds = query_value(connection, _NEXT_DUE)
    return None if seconds is None else float(seconds)


def record(connection: Connection, sender: str, results: Sequence[Result]) -> list[Result]:
    """Record the results of tasks and free their lanes.

    Returns those that must be recorded again, since others had their lanes locked. Those whose claim passed to another
    sender are dropped.
    """
    values = {"results": orjson.dumps(results).decode(), "sender": sender}
    with transaction(connection) as cursor:
        cursor.execute(_LOCK_WEBHOOKS, ([result.webhook_id for result in results],))
        cursor.execute(_RECORD, values)
        again = set(cursor.fetchall())
    return [result for result in results if (result.webhook_id, result.chat_id) in again]


def release(connection: Connection, prefix: str, after: float = 0) -> int:
    """Release the claims of the senders whose name begins with the prefix, due again in `after` seconds.

    Returns how many are left, because their lanes are locked.
    """
    query(connection, _RELEASE, {"prefix": prefix, "after": after})
    return int(query_value(connection, _CLAIMED, (prefix,)))
