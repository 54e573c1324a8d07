"""Changes of messages that wait: cancel them, or try one at once that waits for its next attempt."""

from collections.abc import Sequence

from bisnesctl.bots.causes import causes_of
from bisnesctl.database import retries
from bisnesctl.database.event_sql import NOW, ack_event
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import UsageError
from bisnesctl.queue.messages import MessageDetails, find_place, get

#: The code of messages that were cancelled.
CANCELLED = "cancelled"
#: Messages in one transaction.
MESSAGES_PER_TRANSACTION = 500
#: The reason that a cancelled message has for its customer.
DELETED = "deleted before it was sent"
BY_OPERATOR = "cancelled by an operator before it was sent"
#: The states of messages that are neither sent nor failed nor unknown.
UNFINISHED = frozenset({"waiting", "active", "delayed"})


class NotWaiting(UsageError):
    """The message is not cancelled: a worker has it, or it left."""


class NotRetryable(UsageError):
    """The message is not retried."""


# A message with a provider's id, or with attempts under a key of WhatsApp Web, may have left. The next message of a
# chat does not wait for the retry of one that was cancelled. Locks: lanes in their order, the messages, event_feed.
_CANCEL = f"""
WITH target AS (
    SELECT bot_id, chat_id, id FROM outbox
    WHERE message_id = ANY(%(messages)s::uuid[]) AND (%(company)s IS NULL OR company_id = %(company)s)
), locked AS (
    SELECT l.bot_id, l.chat_id, l.claim, l.head FROM lane l
    WHERE (l.bot_id, l.chat_id) IN (SELECT bot_id, chat_id FROM target)
    ORDER BY l.bot_id, l.chat_id FOR UPDATE OF l
), written AS (
    UPDATE outbox o SET status = 'failed', error_code = '{CANCELLED}', error = %(error)s, updated_at = now(),
        timeline = o.timeline || jsonb_build_array(jsonb_build_object(
            'status', 'failed', 'at', now(), 'code', '{CANCELLED}', 'error', %(error)s::text))
    FROM target t JOIN locked l USING (bot_id, chat_id)
    WHERE o.bot_id = t.bot_id AND o.chat_id = t.chat_id AND o.id = t.id
        AND (l.claim IS NULL OR l.head IS DISTINCT FROM t.id) AND o.status <= 'waiting' AND o.provider_id IS NULL
    RETURNING o.*
), freed AS (
    UPDATE lane l SET pending = l.pending - w.n,
        due = CASE WHEN l.claim IS NULL AND NOT EXISTS (
            SELECT FROM outbox e WHERE e.bot_id = l.bot_id AND e.chat_id = l.chat_id AND e.id > l.done
                AND e.id < w.first AND e.status <= 'sending') THEN LEAST(l.due, now()) ELSE l.due END
    FROM (SELECT bot_id, chat_id, count(*) AS n, min(id) AS first FROM written GROUP BY bot_id, chat_id) w
    WHERE l.bot_id = w.bot_id AND l.chat_id = w.chat_id
), raised AS (
    SELECT raise_events(jsonb_agg({ack_event("w.status", NOW, "w.error_code", "w.error")} ORDER BY w.id)) AS events
    FROM written w
)
SELECT w.message_id::text, raised.events FROM written w CROSS JOIN raised ORDER BY w.id"""

_TRY_NOW = """
UPDATE lane l SET due = now() FROM outbox o
WHERE o.message_id = %s::uuid AND l.bot_id = o.bot_id AND l.chat_id = o.chat_id AND l.claim IS NULL AND l.pending > 0
    AND l.due > now() AND o.status <= 'sending'
RETURNING o.message_id"""


def cancel(
    connection: Connection, message_ids: Sequence[str], company: str | None = None, reason: str = DELETED
) -> list[str]:
    """Fails messages that wait, so that they are never sent; returns their ids in the order of their acceptance.

    Those that a worker has in hand, that left, or that are finished are skipped. `company`: only messages of it.
    """
    cancelled: list[str] = []
    for start in range(0, len(message_ids), MESSAGES_PER_TRANSACTION):
        chosen = list(message_ids[start : start + MESSAGES_PER_TRANSACTION])
        values = {"messages": chosen, "company": company, "error": reason}
        cancelled += [row[0] for row in query(connection, _CANCEL, values)]
    return cancelled


def try_now(connection: Connection, message_id: str) -> bool:
    """Ends the wait for the next attempt in the chat of a message; False if it does not wait for one."""
    return bool(query(connection, _TRY_NOW, (message_id,)))


def cancel_one(connection: Connection, message: MessageDetails, company: str | None = None) -> None:
    """Cancels a message for an operator. Raises `NotWaiting` with the reason if it does not wait any more."""
    if cancel(connection, [message.id], company, BY_OPERATOR):
        return
    now = get(connection, message.id, company)
    if now.state in UNFINISHED and now.worker is None and now.provider_id is not None:
        raise NotWaiting(f"message {message.id} is not cancelled: an attempt was made, and it may have been sent")
    raise NotWaiting(f"message {message.id} is not cancelled: {_state(now)}")


def retry(connection: Connection, message_id: str, company: str | None = None) -> str:
    """Sends a failed message once more, or tries one now that waits for its next attempt; returns what was done.

    Raises `NotRetryable` with the reason if neither is possible, `UsageError` if there is no such message.
    """
    message = get(connection, message_id, company)
    if message.state == "unknown":
        raise NotRetryable(f"message {message.id} may have been sent: ask the recipient, then `{message.next}`")
    if message.state in UNFINISHED:
        if message.worker is None and try_now(connection, message.id):
            place = find_place(connection, message.id)
            cause = next(causes_of(place.bot), None) if place is not None and place.bot is not None else None
            when = "now" if cause is None else f"as soon as this has ended: {cause.text}"
            return f"message {message.id}: its chat is tried {when}"
        raise NotRetryable(f"message {message.id} is not retried, since it is {message.state}: {message.reason}")
    if message.state != "failed":
        raise NotRetryable(f"message {message.id} is not retried: {_state(message)}")
    if refusal := retries.refusal_of(connection, message.id):
        raise NotRetryable(f"message {message.id} is not retried: {refusal}")
    if not retries.retry(connection, [message.id]):
        raise NotRetryable(f"message {message.id} is not retried: {_state(get(connection, message.id, company))}")
    return f"message {message.id} is sent once more"


def _state(message: MessageDetails) -> str:
    """Why a message cannot be changed."""
    return message.reason if message.state in {*UNFINISHED, "failed"} else f"it is {message.state}"
