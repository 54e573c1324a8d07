"""Quotes: the messages that messages of a chat reply to, and the one that a person replies to."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bisnesctl.database.postgres import query
from services.api.messages import queries
from services.api.messages.queries import Chat, Row
from services.database.connection import Connection

#: Days after which WhatsApp may have deleted a message of Meta's channel, so that nobody sees that it is quoted.
META_QUOTE_DAYS = 30
#: Characters of a quoted text.
MAX_TEXT = 160
#: Kinds that are no message of their own.
_NO_MESSAGES = ("reaction", "call", "system", "media_placeholder")

# Both columns have an index; rows of the former system have the provider's id in the first one.
_QUOTED = """
SELECT message_id, external_id, id::text, COALESCE(from_me, direction = 'outbound', false), content, message_type,
    author
FROM messages WHERE company_id = %(company)s AND message_id = ANY(%(ids)s::varchar[])
UNION SELECT message_id, external_id, id::text, COALESCE(from_me, direction = 'outbound', false), content, message_type,
    author
FROM messages WHERE company_id = %(company)s AND external_id = ANY(%(ids)s::varchar[])"""


@dataclass(frozen=True)
class Quote:
    """A message that another one replies to."""

    message_id: str
    from_me: bool
    #: Its beginning, or its kind if it has no text.
    text: str
    author: str


@dataclass(frozen=True)
class Reply:
    """The message that a person replies to."""

    #: The id that the form has.
    named: str
    quote: Quote | None
    #: The key of the text that says why it cannot be quoted, or what may prevent that; empty: nothing.
    problem: str = ""


def of_messages(connection: Connection, company: str, messages: Iterable[Row]) -> dict[str, Quote]:
    """The quoted messages by the id with which messages name them."""
    named = {each["replyTo"]["id"] for each in messages if each.get("replyTo")}
    if not named:
        return {}
    found: dict[str, Quote] = {}
    for stored, external, message_id, from_me, content, kind, author in query(
        connection, _QUOTED, {"company": company, "ids": sorted(named)}
    ):
        quote = Quote(message_id, from_me, _beginning(content or kind), author or "")
        found |= {name: quote for name in (stored, external) if name in named}
    return found


def reply_to(connection: Connection, chat: Chat, named: str, is_meta: bool) -> Reply | None:
    """The message that a person chose to reply to; None: the person chose none."""
    if not named:
        return None
    found = queries.message(connection, Chat(chat.company_id, chat.chat_id), named[:255], "")
    if found is None:
        return Reply(named, None, "chats.reply_unknown")
    quote = Quote(
        found["messageId"], found["fromMe"], _beginning(found["body"] or found["kind"]), found["author"] or ""
    )
    return Reply(named, quote, _problem(found, chat, is_meta))


def can_be_quoted(message: Row) -> bool:
    """Whether a message may be replied to: the provider has it, and nobody deleted it."""
    return bool(message["providerId"]) and message["status"] != "revoked" and message["kind"] not in _NO_MESSAGES


def _problem(message: Row, chat: Chat, is_meta: bool) -> str:
    if not can_be_quoted(message):
        return "chats.reply_impossible"
    if message["phoneIndex"] not in (None, chat.phone_index):
        return "chats.reply_other_number"
    age = datetime.now(UTC) - datetime.fromisoformat(message["timestamp"])
    return "chats.reply_old" if is_meta and age > timedelta(days=META_QUOTE_DAYS) else ""


def _beginning(text: Any) -> str:
    words = " ".join(str(text).split())
    return words if len(words) <= MAX_TEXT else f"{words[: MAX_TEXT - 1]}…"
