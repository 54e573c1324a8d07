"""Retention: rows that nobody reads any more are deleted, and files that no message has, every hour."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import structlog

from bisnesctl.database.quotas import IDEMPOTENCY_KEY_DAYS
from services.database.connection import Connection

#: Seconds between two clean-ups of one process.
CLEAN_UP_INTERVAL_SECONDS = 3600.0
#: One process cleans up at a time: "keep" as a number.
CLEAN_UP_LOCK_ID = 0x6B656570
#: Rows of customers' events and deliveries that one clean-up takes, at most.
BATCH = 20_000
#: Days for which failed deliveries are kept at least, so that an operator can look at them.
DEAD_DAYS = 30

_OLD = "now() - %(days)s * interval '1 day'"

# Deliveries to webhooks that were dead or inactive all that time. Locks as in services.events.store.
_FAIL_OLD = f"""
WITH stuck AS (
    SELECT l.webhook_id, l.chat_id FROM webhook_lane l JOIN webhook w ON w.id = l.webhook_id
    WHERE l.pending > 0 AND (l.claim IS NULL OR l.due < now()) AND EXISTS (
        SELECT FROM webhook_delivery d WHERE d.webhook_id = l.webhook_id AND d.chat_id = l.chat_id
            AND d.status = 'pending' AND d.updated_at < {_OLD})
    LIMIT {BATCH} FOR NO KEY UPDATE OF w, l SKIP LOCKED
), dead AS (
    UPDATE webhook_delivery d SET status = 'dead', updated_at = now(),
        error = COALESCE(d.error, 'it was not called for ' || %(days)s || ' days')
    FROM stuck s WHERE d.webhook_id = s.webhook_id AND d.chat_id = s.chat_id
        AND d.status = 'pending' AND d.updated_at < {_OLD}
    RETURNING d.webhook_id, d.chat_id
), counted AS (
    UPDATE webhook_lane l SET pending = l.pending - c.dead
    FROM (SELECT webhook_id, chat_id, count(*) AS dead FROM dead GROUP BY webhook_id, chat_id) c
    WHERE l.webhook_id = c.webhook_id AND l.chat_id = c.chat_id
)
SELECT FROM dead"""
_DELIVERIES = f"""
DELETE FROM webhook_delivery WHERE status <> 'pending' AND (webhook_id, seq) IN (
    SELECT webhook_id, seq FROM webhook_delivery
    WHERE status <> 'pending' AND updated_at < {_OLD}
        AND (status = 'delivered' OR updated_at < now() - interval '{DEAD_DAYS} days')
    ORDER BY updated_at LIMIT {BATCH})"""
_EVENTS = f"""
DELETE FROM event WHERE (company_id, seq) IN (
    SELECT company_id, seq FROM event e WHERE created_at < {_OLD} AND NOT EXISTS (
        SELECT FROM webhook w JOIN webhook_delivery d ON d.webhook_id = w.id AND d.seq = e.seq AND d.status = 'pending'
        WHERE w.company_id = e.company_id)
    ORDER BY created_at LIMIT {BATCH})"""

_STATEMENTS = {
    "webhooks": "DELETE FROM webhook_inbox WHERE processed_at < now() - interval '7 days' AND error IS NULL",
    "changes of messages": "DELETE FROM message_change WHERE seen_at < now() - interval '7 days'",
    "idempotency keys": "DELETE FROM idempotency_keys"
    f" WHERE created_at < now() - interval '{IDEMPOTENCY_KEY_DAYS} days'",
    "metrics": "DELETE FROM process_metrics WHERE timestamp < now() - interval '7 days'",
    "events": "DELETE FROM process_events WHERE severity IN ('info', 'warning')"
    " AND timestamp < now() - interval '30 days'",
    "instances": "DELETE FROM process_instances WHERE last_heartbeat < now() - interval '1 day'",
    "commands": "DELETE FROM wa_command WHERE created_at < now() - interval '1 day'",
    "keys": "DELETE FROM wa_key WHERE created_at < now() - interval '90 days'",
    "unknown messages": "DELETE FROM unknown_message WHERE since < now() - interval '30 days'",
    "counts of sent": "DELETE FROM wa_sent WHERE hour < now() - interval '2 days'",
    "audit records": "DELETE FROM audit_record WHERE at < now() - %(audit_days)s * interval '1 day'",
    "failed deliveries": _FAIL_OLD,
    "deliveries": _DELIVERIES,
    "events of companies": _EVENTS,
}

_RECORD = """
INSERT INTO retention_run AS r (at, seconds, deleted, host) VALUES (now(), %(seconds)s, %(deleted)s::jsonb, %(host)s)
ON CONFLICT (one) DO UPDATE
SET at = excluded.at, seconds = excluded.seconds, deleted = excluded.deleted, host = excluded.host"""
_EVENT = """
INSERT INTO process_events (process_name, event_type, event_data)
VALUES ('retention', 'rows_deleted', jsonb_build_object('deleted', %(deleted)s::jsonb, 'seconds', %(seconds)s::float,
    'host', %(host)s::text))"""

log = structlog.get_logger()


class Retention:
    """Cleans up regularly."""

    def __init__(self, days: int, audit_days: int, remove_files: Callable[[Connection], int]) -> None:
        """See `clean_up`."""
        self._days, self._audit_days, self._remove_files = days, audit_days, remove_files
        self._next = time.monotonic()

    def postpone(self) -> None:
        """Delete nothing for an hour: the clock was set forward, perhaps by mistake, and everything seems old."""
        self._next = max(self._next, time.monotonic() + CLEAN_UP_INTERVAL_SECONDS)

    def clean_up_if_due(self, connection: Connection) -> None:
        """Delete old rows, at most once an hour."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + CLEAN_UP_INTERVAL_SECONDS
            clean_up(connection, self._days, self._audit_days, self._remove_files)


def clean_up(
    connection: Connection, days: int, audit_days: int, remove_files: Callable[[Connection], int]
) -> dict[str, int]:
    """Delete old rows and files, unless another process is doing so; returns their numbers by their kind.

    `days`: for which the events of companies are kept; `audit_days`: the audit trail. `remove_files`: removes the files
    that no message has.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (CLEAN_UP_LOCK_ID,))
        if cursor.fetchone() != (True,):
            return {}
        began = time.monotonic()
        try:
            deleted = {}
            for name, statement in _STATEMENTS.items():
                cursor.execute(statement, {"days": days, "audit_days": audit_days})
                deleted[name] = cursor.rowcount
            deleted["files"] = remove_files(connection)
            _record(cursor, {name: count for name, count in deleted.items() if count}, time.monotonic() - began)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", (CLEAN_UP_LOCK_ID,))
    if any(deleted.values()):
        log.info("retention.cleaned_up", **{name.replace(" ", "_"): count for name, count in deleted.items() if count})
    return deleted


def _record(cursor: Any, deleted: dict[str, int], seconds: float) -> None:
    """Record the run, for the signals `retention_age` and `retention_deleted`; as an event if it deleted anything."""
    values = {"deleted": json.dumps(deleted), "seconds": round(seconds, 3), "host": socket.gethostname()}
    cursor.execute(_RECORD, values)
    if deleted:
        cursor.execute(_EVENT, values)
