"""The current status of messages, for callers that wait for an outcome."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from services.database.connection import Connection, query
from services.message import Status

_STATUSES = """
SELECT o.message_id::text,
       CASE WHEN l.head = o.id AND o.status <= 'sending' THEN 'sending'
            WHEN o.status = 'queued' AND (
                p.held_until = 'infinity' OR p.hold_code IS NOT NULL AND p.held_until > now()
                OR p.paused_until > now()) THEN 'waiting'
            ELSE o.status::text END,
       o.provider_id, o.error_code, o.error
FROM outbox o JOIN lane l USING (bot_id, chat_id) LEFT JOIN bot_pace p USING (bot_id)
WHERE o.message_id = ANY(%s::uuid[])"""


class MessageStatus(NamedTuple):
    """A message's status, its provider's id, and the code and reason of its last error."""

    status: Status
    provider_id: str | None
    code: str | None
    error: str | None
    hold: dict[str, Any] | None = None  # what holds its number, as callers see it; filled in by the API


def statuses_of(connection: Connection, message_ids: Sequence[str]) -> dict[str, MessageStatus]:
    """The status of each of these messages that exists."""
    rows = query(connection, _STATUSES, (list(message_ids),))
    return {message_id: MessageStatus(Status(status), *more) for message_id, status, *more in rows}
