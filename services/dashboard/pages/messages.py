"""Messages: what waits or failed, the search, and the life of one message."""

import re
from typing import Any

from flask import Blueprint, abort, redirect, request, url_for

from bisnesctl.database.postgres import query
from bisnesctl.people.roles import Role
from bisnesctl.queue import messages as queue
from bisnesctl.queue.messages import QueueFilter
from bisnesctl.queue.states import State
from bisnesctl.views import message_page
from services.dashboard import access, rendering
from services.dashboard.access import needs
from services.dashboard.context import context
from services.dashboard.destinations import following_page

pages = Blueprint("messages", __name__)
#: Messages that a page shows.
PAGE_SIZE = 50
#: Statuses that can be searched for.
STATUSES = ("queued", "sending", "sent", "delivered", "read", "failed", "unknown")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_BY_PROVIDER_ID = """
SELECT COALESCE(message_id, id::text) FROM messages
WHERE external_id = %(id)s AND (%(company)s::text IS NULL OR company_id = %(company)s) LIMIT 1"""
_COMPANY = """
SELECT company_id FROM outbox WHERE message_id = %(id)s::uuid
UNION SELECT company_id FROM messages WHERE id = %(id)s::uuid OR message_id = %(id)s LIMIT 1"""
# Ids are in the order of acceptance, so the newest are found without a sort, and no further back than this many.
_SEARCHED = 1_000_000
_SEARCH = f"""
SELECT o.id, o.message_id::text, o.company_id, o.phone_index, o.chat_id, o.kind, o.status::text, o.error_code, o.error,
    extract(epoch FROM o.accepted_at)::float
FROM outbox o
WHERE o.id > (SELECT COALESCE(max(id), 0) - {_SEARCHED} FROM outbox)
    AND (%(before)s::bigint IS NULL OR o.id < %(before)s)
    AND (%(company)s::text IS NULL OR o.company_id = %(company)s)
    AND (%(chat)s::text IS NULL OR o.chat_id = %(chat)s) AND (%(status)s::text IS NULL OR o.status::text = %(status)s)
    AND (%(code)s::text IS NULL OR o.error_code = %(code)s)
    AND (%(text)s::text IS NULL OR o.payload::text ILIKE '%%' || %(text)s || '%%')
ORDER BY o.id DESC LIMIT %(limit)s"""


@pages.get("/messages")
@needs(Role.VIEWER, company=True)
def index() -> Any:
    """The newest messages that were accepted, or those that match. An id leads to its message."""
    names = ("id", "text", "chat", "status", "code", "company", "before")
    values = {name: request.args.get(name, "").strip() or None for name in names}
    company = access.company() or values["company"]
    missing = False
    if values["id"]:
        if found := _find_id(values["id"], company):
            return redirect(url_for("messages.show", name=found))
        missing = True
    wanted = {
        "company": company, "chat": values["chat"] and _chat(values["chat"]), "status": values["status"],
        "code": values["code"], "text": values["text"] and _literal(values["text"]),
        "before": _number(values["before"]), "limit": PAGE_SIZE + 1,
    }  # fmt: skip
    with context().sources.connection() as connection:
        rows = query(connection, _SEARCH, wanted)
    following = ""
    if len(rows) > PAGE_SIZE:
        following = following_page("messages.index", before=rows[PAGE_SIZE - 1][0])
    return rendering.page(
        "messages.html", rows=rows[:PAGE_SIZE], values=values, following=following, missing=missing, statuses=STATUSES
    )


@pages.get("/messages/<name>")
@needs(Role.VIEWER, company=True)
def show(name: str) -> Any:
    """The life of one message."""
    if not _UUID.fullmatch(name):
        abort(404)
    with context().sources.connection() as connection:
        owner = query(connection, _COMPANY, {"id": name})
    if not owner or access.company() not in (None, owner[0][0]):
        abort(404)
    page = message_page.describe(context().sources.deployment().settings, name, with_text=True)
    if page is None:
        abort(404)
    return rendering.page("message.html", page=page, can_cancel=page.status in ("queued", "waiting"),
                          can_retry=page.status in ("failed", "queued", "waiting"))  # fmt: skip


@pages.get("/queue")
@needs(Role.VIEWER, company=True)
def waiting() -> Any:
    """Messages that wait, failed or are unknown, the oldest first."""
    chosen = request.args.get("state", "")
    state = State(chosen) if chosen in list(State) else None
    after = request.args.get("after", "0")
    wanted = QueueFilter(company=access.company() or request.args.get("company") or None, state=state)
    with context().sources.connection() as connection:
        found, more = queue.find(connection, wanted, PAGE_SIZE, int(after) if after.isdecimal() else 0)
    following = url_for("messages.waiting", state=chosen, after=found[-1].number) if more else ""
    return rendering.page("queue.html", messages=found, state=chosen, states=list(State), following=following)


def _find_id(text: str, company: str | None) -> str | None:
    if _UUID.fullmatch(text):
        return text.lower()
    with context().sources.connection() as connection:
        rows = query(connection, _BY_PROVIDER_ID, {"id": text, "company": company})
    return str(rows[0][0]) if rows else None


def _chat(text: str) -> str:
    """A chat as it is stored: digits without signs, or an id with @."""
    return text if "@" in text else re.sub(r"[^0-9]", "", text)


def _literal(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 19 else None
