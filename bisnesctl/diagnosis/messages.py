"""The links of a message: its place in its chat, its own state, and what its chat's first message waits for."""

from dataclasses import dataclass

from bisnesctl.database.postgres import Connection, query
from bisnesctl.database.transient_errors import is_transient
from bisnesctl.diagnosis.chain import Link, State
from bisnesctl.formatting import duration

#: The statuses of messages that have left.
_LEFT = ("sent", "delivered", "read")

# The first message of the chat that is not finished: all messages of a chat leave in their order.
_MESSAGE = """
SELECT o.message_id::text, o.company_id, o.phone_index, o.chat_id, o.kind, o.status::text, o.attempts, o.error_code,
       o.error, o.provider_id, extract(epoch FROM now() - o.accepted_at)::float,
       extract(epoch FROM now() - o.updated_at)::float, l.claim, extract(epoch FROM l.due - now())::float,
       l.head = o.id, f.message_id::text, f.status::text, f.attempts, f.error_code, f.error,
       extract(epoch FROM now() - f.accepted_at)::float, COALESCE(b.n, 0)
FROM outbox o LEFT JOIN lane l ON l.bot_id = o.bot_id AND l.chat_id = o.chat_id
LEFT JOIN LATERAL (
    SELECT * FROM outbox a
    WHERE a.bot_id = o.bot_id AND a.chat_id = o.chat_id AND a.id > GREATEST(l.done, 0) AND a.status <= 'sending'
    ORDER BY a.id LIMIT 1) f ON o.status <= 'sending'
LEFT JOIN LATERAL (
    SELECT count(*)::int AS n FROM outbox a
    WHERE a.bot_id = o.bot_id AND a.chat_id = o.chat_id AND a.id > GREATEST(l.done, 0) AND a.id < o.id
        AND a.status <= 'sending') b ON o.status <= 'sending'
WHERE {}"""
_BY_ID = _MESSAGE.format("o.message_id = %s::uuid")
_BY_PROVIDER_ID = _MESSAGE.format(
    "o.message_id IN (SELECT id FROM messages WHERE external_id = %s ORDER BY timestamp DESC LIMIT 1)"
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the outbox. Times are in seconds before or from now, by the database's clock."""

    id: str
    company: str
    phone: int
    chat: str
    kind: str
    status: str
    attempts: int
    code: str | None
    error: str | None
    provider_id: str | None
    accepted_ago: float
    changed_ago: float
    claim: str | None  # the worker that has a message of its chat in hand: <host>/<instance>/<boot>
    due_in: float | None  # when its chat may be served next; below 0: now
    in_hand: bool | None
    first: str | None  # the chat's first message that is not finished
    first_status: str | None
    first_attempts: int | None
    first_code: str | None
    first_error: str | None
    first_ago: float | None
    ahead: int  # messages of its chat that must leave before it

    @property
    def is_waiting(self) -> bool:
        """Whether it has not left yet."""
        return self.status in ("queued", "waiting", "sending")


def find(connection: Connection, message_id: str, by_provider: bool) -> Message | None:
    """The message; None if there is none. `by_provider`: the id is its provider's."""
    rows = query(connection, _BY_PROVIDER_ID if by_provider else _BY_ID, (message_id,))
    return Message(*rows[0]) if rows else None


def links(message: Message) -> list[Link]:
    """The links of a message, after those of its bot."""
    if message.is_waiting:
        return [*_chat(message), _turn(message)]
    return [_outcome(message)]


def _chat(message: Message) -> list[Link]:
    """The messages before it in its chat; none if it is the first."""
    if not message.ahead:
        return []
    attempt = f", attempt {message.first_attempts}" if message.first_attempts else ""
    reason = ": ".join(filter(None, (message.first_code, message.first_error)))
    text = (
        f"{_messages(message.ahead)} of its chat must leave before it; the first, {message.first}, has waited for"
        f" {duration(message.first_ago)} ({message.first_status}{attempt}{f': {reason}' if reason else ''})"
    )
    return [Link("chat", State.DELAYS, text, _next_turn(message), f"bisnesctl why {message.first}")]


def _turn(message: Message) -> Link:
    if message.in_hand:
        text = f"{_worker(message.claim)} has it in hand and waits for its provider's answer"
        if (message.due_in or 0) < 0:
            text += f"; that claim ended {duration(-(message.due_in or 0))} ago"
        return Link("message", State.DELAYS, text, "if that worker died, it becomes unknown or is sent by another one")
    reason = ": ".join(filter(None, (message.code, message.error)))
    if message.attempts:
        text = f"{_attempts(message.attempts)} failed{f': {reason}' if reason else ''}"
        return Link("message", State.DELAYS, text, _next_turn(message))
    if message.status == "waiting":
        return Link("message", State.DELAYS, f"it waits{f': {reason}' if reason else ' for its number'}", "")
    if (message.due_in or 0) > 1:
        return Link("message", State.DELAYS, "its chat is due later", _next_turn(message))
    return Link("message", State.OK, "it is due: the next free worker takes it")


def _outcome(message: Message) -> Link:
    reason = ": ".join(filter(None, (message.code, message.error)))
    ago = f"{duration(message.changed_ago)} ago"
    if message.status in _LEFT:
        return Link("message", State.OK, f"it was sent; its last report is {message.status}, {ago}")
    if message.status == "unknown":
        return Link("message", State.BLOCKS, f"it may have been sent: its answer was lost {ago} ({reason})",
                    "a status report of its provider settles it",
                    f"bisnesctl dead-letters resolve --as sent|failed|again {message.id}")  # fmt: skip
    again = message.provider_id is None and is_transient(message.code, message.error)
    command = f"bisnesctl dead-letters retry {message.id}" if again else "put it right, and send it as a new message"
    return Link("message", State.BLOCKS, f"it failed {ago}: {reason or 'no reason is stored'}", command=command)


def _next_turn(message: Message) -> str:
    due = message.due_in or 0.0
    return f"the next attempt is in {duration(due)}" if due > 0 else "the next attempt is due now"


def _worker(claim: str | None) -> str:
    parts = (claim or "").split("/")
    return f"{parts[1]} on {parts[0]}" if len(parts) == 3 else "a worker"


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"
