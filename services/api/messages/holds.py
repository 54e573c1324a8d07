"""Why a message does not leave: the hold of its number, as callers are told of it."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from services.database.connection import Connection

#: SQL of the hold of a row `o` of the outbox that waits, as JSON; NULL where nothing holds its number.
HOLD = """CASE WHEN o.status <= 'sending' THEN (
        SELECT jsonb_build_object('needsOperator', NOT isfinite(p.held_until), 'since', p.outage_since,
            'until', CASE WHEN isfinite(p.held_until) AND p.held_until > now() THEN p.held_until END,
            'reason', CASE WHEN p.outage_since IS NULL OR p.held_until = 'infinity' THEN p.held_reason
                ELSE p.outage_code || ': ' || p.outage_reason END)
        FROM bot_pace p WHERE p.bot_id = o.bot_id AND (p.held_until > now() OR p.outage_since IS NOT NULL)) END"""

_OF_MESSAGES = f"SELECT o.message_id::text, {HOLD} FROM outbox o WHERE o.message_id = ANY(%s::uuid[])"


def of_messages(connection: Connection, message_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """What holds the numbers of those messages that wait and are held."""
    with connection.cursor() as cursor:
        cursor.execute(_OF_MESSAGES, (list(message_ids),))
        return {message_id: told(hold) for message_id, hold in cursor.fetchall() if hold}


def told(hold: dict[str, Any]) -> dict[str, Any]:
    """A hold, of the column `HOLD`, as callers are told of it."""
    return hold | {name: hold[name] and utc(datetime.fromisoformat(hold[name])) for name in ("since", "until")}


def utc(moment: datetime) -> str:
    """A moment as callers are told of it: 2025-01-31T08:00:00.125Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
