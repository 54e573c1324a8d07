"""Messages: what waits or failed, the search, and the life of one message."""

import re
from typing import Any

from flask import Blueprint, abort, redirect, request, url_for

from bisnesctl.database.postgres import containing, query
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
#: Messages that a search looks at for a page.
MAX_LOOK = 10_000
# Their ids begin with the time of the request, so the newest are read from an index.
_NEWEST = """
SELECT * FROM outbox o
WHERE (%(before)s::uuid IS NULL OR o.message_id < %(before)s::uuid) AND (%(chat)s::text IS NULL OR o.chat_id = %(chat)s
    AND o.bot_id IN (SELECT id FROM phone_configs WHERE %(company)s::text IS NULL OR company_id = %(company)s))
ORDER BY o.message_id DESC"""
#: The SQL of a page.
SEARCH = f"""
SELECT o.message_id::text, o.company_id, o.phone_index, o.chat_id, o.kind, o.status::text, o.error_code, o.error,
    extract(epoch FROM o.accepted_at)::float
FROM ({_NEWEST} LIMIT %(look)s) o
WHERE (%(company)s::text IS NULL OR o.company_id = %(company)s)
    AND (%(status)s::text IS NULL OR o.status::text = %(status)s)
    AND (%(code)s::text IS NULL OR o.error_code = %(code)s)
    AND (%(text)s::text IS NULL OR o.payload::text ILIKE %(text)s)
ORDER BY o.message_id DESC LIMIT %(limit)s"""
#: SQL of the last message that a page looked at, and the one behind it.
END = f"SELECT message_id::text FROM ({_NEWEST} OFFSET %(look)s - 1 LIMIT 2) o"


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
        "code": values["code"], "text": containing(values["text"]),
        "before": values["before"] if _UUID.fullmatch(values["before"] or "") else None, "limit": PAGE_SIZE + 1,
        "look": MAX_LOOK,
    }  # fmt: skip
    following, looked = "", 0
    with context().sources.connection() as connection:
        rows = query(connection, SEARCH, wanted)
        if len(rows) > PAGE_SIZE:
            following = following_page("messages.index", before=rows[PAGE_SIZE - 1][0])
        elif len(end := query(connection, END, wanted)) > 1:
            following, looked = following_page("messages.index", before=end[0][0]), MAX_LOOK
    return rendering.page(
        "messages.html", rows=rows[:PAGE_SIZE], values=values, following=following, looked=looked, missing=missing,
        statuses=STATUSES,
    )  # fmt: skip


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
