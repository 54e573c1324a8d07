"""Cancels messages that have not left: those that wait in the outbox and that no worker has in hand."""

from services.database.connection import Connection, transaction
from services.events.payload_sql import NOW, ack_event
from services.outbox.store import raise_events

#: The code of messages that their sender cancelled.
CANCELLED = "cancelled"

# A message with a provider's id, or with attempts under a key of WhatsApp Web, may have left. Locks: the lane, the
# message, event_feed.
_CANCEL = f"""
WITH target AS (
    SELECT bot_id, chat_id, id FROM outbox WHERE message_id = %(message)s::uuid AND company_id = %(company)s
), locked AS (
    SELECT l.bot_id, l.chat_id, t.id FROM lane l JOIN target t USING (bot_id, chat_id)
    WHERE l.claim IS NULL OR l.head IS DISTINCT FROM t.id FOR UPDATE OF l
), written AS (
    UPDATE outbox o SET status = 'failed', error_code = %(code)s, error = %(error)s, updated_at = now(),
        timeline = o.timeline || jsonb_build_array(jsonb_build_object(
            'status', 'failed', 'at', now(), 'code', %(code)s::text, 'error', %(error)s::text))
    FROM locked l WHERE o.bot_id = l.bot_id AND o.chat_id = l.chat_id AND o.id = l.id
        AND o.status <= 'waiting' AND o.provider_id IS NULL
    RETURNING o.*
), freed AS (
    UPDATE lane l SET pending = l.pending - 1 FROM written w WHERE l.bot_id = w.bot_id AND l.chat_id = w.chat_id
)
SELECT w.message_id::text, {ack_event("w.status", NOW, "w.error_code", "w.error")}::text FROM written w"""


def cancel(connection: Connection, company_id: str, message_id: str) -> bool:
    """Fail a message that waits, so that it is never sent; False if a worker has it, or it left."""
    values = {"message": message_id, "company": company_id, "code": CANCELLED, "error": "deleted before it was sent"}
    with transaction(connection) as cursor:
        cursor.execute(_CANCEL, values)
        row = cursor.fetchone()
        if row is not None:
            raise_events(connection, [(0, row[1])])
    return row is not None
