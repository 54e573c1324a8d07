"""One message on one page: its life with times. `bisnesctl describe UUID`.

Its text and its files are left out unless an operator asks: they belong to the customers.
"""

from dataclasses import dataclass, field
from typing import Any

from bisnesctl.bots.causes import causes_of
from bisnesctl.database import postgres
from bisnesctl.database.postgres import Connection, query
from bisnesctl.moments import from_database
from bisnesctl.queue import reasons
from bisnesctl.queue.messages import find_place
from bisnesctl.queue.reasons import Place
from bisnesctl.settings import Settings

#: Seconds to connect, and for each statement.
DATABASE_TIMEOUT_SECONDS = 3
#: Statuses in which a message is not sent yet.
_UNSENT = ("queued", "waiting", "sending")
#: Those, and others that have a reason.
_WITH_REASON = (*_UNSENT, "failed", "unknown")

_OUTGOING = """
SELECT o.message_id::text, o.company_id, o.phone_index, o.chat_id, o.kind, o.status::text, o.attempts, o.provider_id,
       o.timeline, o.accepted_at::timestamptz(3)::text, o.updated_at::timestamptz(3)::text, o.payload, p.process_name
FROM outbox o LEFT JOIN bot_pace p ON p.bot_id = o.bot_id
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
        rows, place = query(connection, _OUTGOING, (message_id,)), find_place(connection, message_id)
        return _outgoing(rows[0], place, with_text) if rows and place else _stored(connection, message_id, with_text)


def _outgoing(row: tuple[Any, ...], place: Place, with_text: bool) -> MessagePage:
    (number, company, phone, chat, kind, status, attempts, provider_id, timeline, accepted, updated, payload,
     channel) = row  # fmt: skip
    reason, command = reasons.explain(place)
    following = _next(place) if place.unfinished else _END.get(status, "nothing more is expected")
    own = [command] if command else []
    return MessagePage(
        number, "sent", company, phone, chat, kind, channel, "sent", status, reason if status in _WITH_REASON else "",
        following, list(dict.fromkeys([*own, *_commands(number, f"{company}-{phone}", status)])),
        from_database(accepted), from_database(updated), attempts, provider_id,
        _steps([{"status": "accepted", "at": accepted}, *timeline]), payload if with_text else None,
    )  # fmt: skip


def _steps(timeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each | {"at": from_database(each.get("at"))} for each in timeline]


_END = {
    "sent": "the provider reports that it was delivered and read, or that it failed",
    "delivered": "the provider may report that it was read",
    "failed": "nothing, until somebody retries it",
    "unknown": "it is never sent again by itself; a late report of the provider still counts",
}


def _next(place: Place) -> str:
    if place.row["in_hand"]:
        return "its outcome is recorded"
    if place.bot is None:
        return "nothing: its bot was removed"
    if {each.about for each in causes_of(place.bot)} == {"process"}:
        return f"it leaves as soon as a process of {place.bot.channel} sends again"
    if any(causes_of(place.bot)):
        return "it leaves when that has ended"
    if not place.is_first:
        return "it leaves after the messages before it"
    return "it is tried then" if place.is_delayed else "the next free worker sends it"


def _commands(number: str, bot: str, status: str) -> list[str]:
    if status in ("failed", "unknown"):
        return [f"bisnesctl dead-letters show {number}"]
    return [f"bisnesctl describe {bot}", "bisnesctl status --kind meta,sessions"] if status in _UNSENT else []


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
