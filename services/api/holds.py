"""Why a message does not leave: the hold of its number, as callers are told of it."""

from datetime import UTC, datetime
from typing import Any

from services.store import Connection

#: SQL of the hold of a row `o` of the outbox that waits, as JSON; NULL where nothing holds its number.
HOLD = """CASE WHEN o.status <= 'sending' THEN (
        SELECT jsonb_build_object('needsOperator', NOT isfinite(p.held_until), 'since', p.outage_since,
            'until', CASE WHEN isfinite(p.held_until) AND p.held_until > now() THEN p.held_until END,
            'reason', CASE WHEN p.outage_since IS NULL OR p.held_until = 'infinity' THEN p.held_reason
                ELSE p.outage_code || ': ' || p.outage_reason END)
        FROM bot_pace p WHERE p.bot_id = o.bot_id AND (p.held_until > now() OR p.outage_since IS NOT NULL)) END"""

_OF_MESSAGE = f"SELECT {HOLD} FROM outbox o WHERE o.message_id = %s"


def of_message(connection: Connection, message_id: str) -> dict[str, Any] | None:
    """What holds a message's number; None where nothing does, or the message does not wait."""
    with connection.cursor() as cursor:
        cursor.execute(_OF_MESSAGE, (message_id,))
        row = cursor.fetchone()
    return told(row[0]) if row and row[0] else None


def told(hold: dict[str, Any]) -> dict[str, Any]:
    """A hold, of the column `HOLD`, as callers are told of it."""
    return hold | {name: hold[name] and utc(datetime.fromisoformat(hold[name])) for name in ("since", "until")}


def utc(moment: datetime) -> str:
    """A moment as callers are told of it: 2025-01-31T08:00:00.125Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
