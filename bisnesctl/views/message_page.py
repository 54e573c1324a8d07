"""One message on one page: its life with times. `bisnesctl describe UUID`.

Its text and its files are left out unless an operator asks: they belong to the customers.
"""

from dataclasses import dataclass, field
from typing import Any

from bisnesctl.database import postgres
from bisnesctl.database.postgres import Connection, query
from bisnesctl.moments import from_database, shown_iso
from bisnesctl.settings import Settings

#: Seconds to connect, and for each statement.
DATABASE_TIMEOUT_SECONDS = 3
#: Statuses in which a message is not sent yet.
_UNSENT = ("queued", "waiting", "sending")

_OUTGOING = """
SELECT o.message_id::text, o.company_id, o.phone_index, o.chat_id, o.kind, o.status::text, o.attempts, o.provider_id,
       o.error_code, o.error, o.timeline, o.accepted_at::timestamptz(3)::text, o.updated_at::timestamptz(3)::text,
       o.payload, p.process_name, CASE WHEN p.held_until > now() THEN p.held_reason END,
       CASE WHEN p.held_until > now() THEN p.held_until::text END, l.claim, l.head = o.id, l.due::timestamptz(0)::text,
       l.due > now(), (SELECT count(*) FROM outbox e WHERE e.bot_id = o.bot_id AND e.chat_id = o.chat_id
           AND e.id < o.id AND e.id >= CASE WHEN l.done < 0 THEN -l.done ELSE l.done + 1 END
           AND e.status IN ('queued', 'waiting', 'sending', 'unknown'))::int
FROM outbox o LEFT JOIN bot_pace p ON p.bot_id = o.bot_id
    LEFT JOIN lane l ON l.bot_id = o.bot_id AND l.chat_id = o.chat_id
WHERE o.message_id = %s::uuid"""
_HISTORY = """
SELECT COALESCE(message_id, id::text), company_id, phone_index, chat_id, message_type, status, external_id,
       timestamp::timestamptz(3)::text, created_at::timestamptz(3)::text, COALESCE(from_me, direction = 'outgoing'),
       content, provider
FROM messages WHERE id = %(id)s::uuid OR message_id = %(id)s LIMIT 1"""


@dataclass(frozen=True)
class MessagePage:
    """Everything that is known about one message. Times are in the form of `moments.iso`."""

    id: str
    #: sent or received.
    direction: str
    company: str
    phone: int | None
    chat: str | None
    content_type: str | None
    channel: str | None
    wanted: str
    status: str | None
    #: Why it is not sent, or how it failed; empty otherwise.
    why: str
    next: str
    commands: list[str]
    accepted_at: str | None
    updated_at: str | None
    attempts: int | None
    provider_id: str | None
    #: Each step with `status`, `at`, and `attempt`, `code` and `error` if there are any.
    timeline: list[dict[str, Any]] = field(default_factory=list)
    #: Its text and other content; None unless it was asked for.
    content: Any = None


def describe(settings: Settings, message_id: str, with_text: bool = False) -> MessagePage | None:
    """The page of a message; None if there is none. Raises `DatabaseUnavailable` and its siblings."""
    with postgres.connected(settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection:
        rows = query(connection, _OUTGOING, (message_id,))
        return _outgoing(rows[0], with_text) if rows else _stored(connection, message_id, with_text)


def _outgoing(row: tuple[Any, ...], with_text: bool) -> MessagePage:
    (number, company, phone, chat, kind, status, attempts, provider_id, code, error, timeline, accepted, updated,
     payload, channel, held, held_until, claim, in_hand, due, later, before) = row  # fmt: skip
    bot = f"{company}-{phone}"
    why, following = _wait(
        bot, held, held_until, claim if in_hand else None, from_database(due) if later else None, before
    )
    if status not in _UNSENT:
        why = ": ".join(each for each in (code, error) if each) if status in ("failed", "unknown") else ""
        following = _END.get(status, "nothing more is expected")
    return MessagePage(
        number, "sent", company, phone, chat, kind, channel, "sent", status, why, following,
        _commands(number, bot, status, bool(held)), from_database(accepted), from_database(updated), attempts,
        provider_id, _steps([{"status": "accepted", "at": accepted}, *timeline]), payload if with_text else None,
    )  # fmt: skip


def _steps(timeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each | {"at": from_database(each.get("at"))} for each in timeline]


_END = {
    "sent": "the provider reports that it was delivered and read, or that it failed",
    "delivered": "the provider may report that it was read",
    "failed": "nothing, until somebody retries it",
    "unknown": "it is never sent again by itself; a late report of the provider still counts",
}


def _wait(
    bot: str, held: str | None, held_until: str | None, claim: str | None, due: str | None, before: int
) -> tuple[str, str]:
    """Why it waits, and what happens next."""
    if held:
        until = "until its cause is gone" if held_until == "infinity" else f"until {_shown(held_until)}"
        return f"bot {bot} is held {until}: {held}", "it leaves when the hold ends"
    if claim:
        return f"{claim.split('/')[1] if '/' in claim else claim} is sending it", "its outcome is recorded"
    if before:
        count = "1 earlier message" if before == 1 else f"{before} earlier messages"
        return f"{count} of its chat {'is' if before == 1 else 'are'} not finished", "it leaves after them"
    if due:
        return f"its chat is due at {_shown(due)}: a retry or a limit", "it is tried then"
    return "a worker has not come to it yet", "the next free worker sends it"


def _shown(at: str | None) -> str:
    return shown_iso(from_database(at) or "?")


def _commands(number: str, bot: str, status: str, held: bool) -> list[str]:
    if status == "unknown":
        return [f"bisnesctl dead-letters resolve --as sent {number}", f"bisnesctl dead-letters show {number}"]
    if status == "failed":
        return [f"bisnesctl dead-letters retry {number}", f"bisnesctl dead-letters show {number}"]
    if status in _UNSENT:
        return [f"bisnesctl describe {bot}", "bisnesctl status --kind meta,sessions"]
    return [f"bisnesctl describe {bot}"] if held else []


def _stored(connection: Connection, message_id: str, with_text: bool) -> MessagePage | None:
    """A message of the history: one that was received, or that was sent by other means."""
    rows = query(connection, _HISTORY, {"id": message_id})
    if not rows:
        return None
    number, company, phone, chat, kind, status, provider_id, at, stored, own, content, channel = rows[0]
    steps = [{"status": "sent" if own else "received", "at": at}, {"status": "stored", "at": stored}]
    return MessagePage(
        number, "sent" if own else "received", company, phone, chat, kind, channel, "sent" if own else "received",
        status, "", "nothing more is expected", [], from_database(stored), from_database(at), None, provider_id,
        _steps(steps), content if with_text else None,
    )  # fmt: skip
