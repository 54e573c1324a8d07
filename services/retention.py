"""What is kept how long: rows that nobody reads any more are deleted, an hour's worth at a time."""

import time

import structlog

from services.store import Connection

#: Seconds between two clean-ups of one process.
INTERVAL = 3600.0
#: One process cleans up at a time, whichever comes first: "keep" as a number.
LOCK = 0x6B656570

_STATEMENTS = {
    "webhooks": "DELETE FROM webhook_inbox WHERE processed_at < now() - interval '7 days' AND error IS NULL",
    "idempotency keys": "DELETE FROM idempotency_keys WHERE created_at < now() - interval '7 days'",
    "metrics": "DELETE FROM process_metrics WHERE timestamp < now() - interval '7 days'",
    "events": "DELETE FROM process_events WHERE severity IN ('info', 'warning')"
    " AND timestamp < now() - interval '30 days'",
    "instances": "DELETE FROM process_instances WHERE last_heartbeat < now() - interval '1 day'",
}

log = structlog.get_logger()


class Retention:
    """Cleans up now and then."""

    def __init__(self) -> None:
        self._next = time.monotonic()

    def clean_up_if_due(self, connection: Connection) -> None:
        """Delete what is old enough, at most once an hour."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL
            clean_up(connection)


def clean_up(connection: Connection) -> dict[str, int]:
    """Delete what is old enough, unless another process is at it; returns how many rows of what."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
        if cursor.fetchone() != (True,):
            return {}
        try:
            deleted = {}
            for name, statement in _STATEMENTS.items():
                cursor.execute(statement)
                deleted[name] = cursor.rowcount
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
    if any(deleted.values()):
        log.info("cleaned up", **{name.replace(" ", "_"): count for name, count in deleted.items() if count})
    return deleted
