"""Chats of both channels: the list, and one chat with its messages. `answers` has the forms by which people write."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, request

from bisnesctl.bots import store
from bisnesctl.bots.store import Bot
from bisnesctl.database.postgres import query
from bisnesctl.people.roles import Role
from services.api.messages import queries
from services.api.messages.queries import Chat, Position, Row
from services.api.messages.request_fields import InvalidChatId, normalise_chat_id
from services.dashboard import access, parameters, rendering, texts
from services.dashboard.access import needs
from services.dashboard.chats import contacts, quotes
from services.dashboard.chats.quotes import Quote, Reply
from services.dashboard.context import context
from services.dashboard.destinations import following_page
from services.database.connection import Connection, DatabaseError, DatabaseUnavailable
from services.media.kinds import MB

pages = Blueprint("chats", __name__)
#: Chats, and messages of a chat, that a page shows.
LIST_SIZE, PAGE_SIZE = 50, 40
#: Reactions to choose from.
EMOJI = ("👍", "❤️", "😂", "😮", "😢", "🙏")
#: Bytes of a file that a person may send. Larger ones are sent over the API itself.
MAX_FILE = 16 * MB
#: Random bytes in the name of a form.
FORM_BYTES = 16

_NAME = """
SELECT COALESCE(NULLIF(name, ''), contact_name), phone_index FROM contacts
WHERE company_id = %(company)s AND contact_id = %(company)s || '-' || split_part(%(chat)s, '@', 1)"""


@dataclass(frozen=True)
class Place:
    """A chat of a company."""

    company: str
    chat: str


@dataclass(frozen=True)
class Conversation:
    """A page of a chat."""

    name: str | None
    #: The company's numbers, and the one that answers.
    numbers: list[Bot]
    phone: int
    #: The oldest first.
    messages: list[Row]
    older: Position | None
    #: Whether anything may be sent now, and until when; None: the number has no such window.
    window: Row | None
    #: The messages that others reply to, by the ids with which they name them, and the one that the person replies to.
    quotes: Mapping[str, Quote]
    reply: Reply | None


@pages.get("/chats")
@needs(Role.VIEWER, company=True)
def index() -> Any:
    """The list, newest first; those of a number or a name if it is asked for."""
    company = access.company() or request.args.get("company", "").strip() or None
    wanted = request.args.get("q", "").strip()
    with context().sources.connection() as connection:
        found = contacts.page(connection, company, wanted, request.args.get("before", ""), LIST_SIZE)
    following = following_page("chats.index", before=found.following) if found.following else ""
    return rendering.page(
        "chats.html", chats=found.contacts, wanted=wanted, company=company, following=following, looked=found.looked,
        other=_chat(wanted, company) if wanted and company else None,
    )  # fmt: skip


@pages.get("/chats/<company>/<chat>")
@needs(Role.VIEWER, company=True)
def show(company: str, chat: str) -> Any:
    """The newest messages of a chat, or those before a position."""
    return page(place(company, chat), parameters.number(request.args.get("phone")))


def place(company: str, chat: str) -> Place:
    """The chat that an address names, if the person may see it."""
    require(company)
    return Place(company, _chat(chat, company) or abort(404))


def require(company: str) -> None:
    """Answers like an address that does not exist if the person may not see this company."""
    if access.company() not in (None, company):
        abort(404)


def new_form_name() -> str:
    """A name for a form that nobody sent yet."""
    return secrets.token_hex(FORM_BYTES)


def page(
    where: Place, phone: int | None, status: int = 200, message: str = "", form: Mapping[str, str] | None = None
) -> Any:
    """The page of a chat. `message`: why something was not sent; `form`: what the person typed, which it keeps."""
    found, problem, typed = None, "", {"key": new_form_name()} | dict(form or {})
    reply = typed.get("reply") or request.args.get("reply", "")
    try:
        with context().sources.connection() as connection:
            found = _conversation(connection, where, phone, _start(), reply)
    except (DatabaseUnavailable, DatabaseError) as error:
        status, problem = 503, f"{texts.text('error.database')} {str(error).strip()}"
    if found is not None and not found.numbers:
        abort(404)
    return rendering.page(
        "chat.html", status, place=where, found=found, problem=problem, message=message, form=typed,
        phone=(phone or 0) if found is None else found.phone, emoji=EMOJI, is_newest=not request.args.get("before"),
        is_own=_is_own, link_of=_link, max_file=MAX_FILE, can_be_quoted=quotes.can_be_quoted,
    )  # fmt: skip


def _conversation(connection: Connection, where: Place, phone: int | None, start: Position, reply: str) -> Conversation:
    numbers = store.find(connection, where.company)
    known = query(connection, _NAME, {"company": where.company, "chat": where.chat})
    name, last_phone = known[0] if known else (None, None)
    messages, older = queries.page(connection, Chat(where.company, where.chat), start, PAGE_SIZE, "")
    indexes = [each.phone for each in numbers]
    candidates = [phone, *(each["phoneIndex"] for each in messages[:1]), last_phone, *indexes]
    chosen = next((each for each in candidates if each in indexes), 0)
    chat = Chat(where.company, where.chat, chosen)
    window = queries.window(connection, chat)
    quoted = quotes.of_messages(connection, where.company, messages)
    replied = quotes.reply_to(connection, chat, reply, window is not None)
    return Conversation(name, numbers, chosen, messages[::-1], older, window, quoted, replied)


def _start() -> Position:
    try:
        return Position.read(request.args["before"]) if request.args.get("before") else queries.START
    except ValueError:
        abort(404)


def _is_own(message: Row) -> bool:
    """Whether we have the file of a message."""
    return "/api/v2/media/" in str((message["media"] or {}).get("url") or "")


def _link(message: Row) -> str:
    """The address of a file that is elsewhere; empty if it is none that a browser may open."""
    url = str((message["media"] or {}).get("url") or "")
    return url if url.startswith(("https://", "http://")) else ""


def _chat(text: str, company: str) -> str | None:
    try:
        return normalise_chat_id(text, company)
    except InvalidChatId:
        return None
