"""The contacts as the list of chats shows them: those with the newest messages first, a page at a time.

A page is read from an index, so the number of contacts does not matter. A search looks at a part of them for each page,
and the next page continues where it ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bisnesctl.database.postgres import containing, query
from services.dashboard import parameters
from services.database.connection import Connection

#: Contacts that a search looks at for a page.
MAX_LOOK = 5_000

_AT = "contact_active_at(last_message, updated_at)"
_NEWEST = f"""
SELECT *, {_AT} AS at FROM contacts
WHERE {{company}} (%(at)s::float IS NULL OR ({_AT}, id) < (%(at)s::float, %(id)s::uuid))
ORDER BY {_AT} DESC, id DESC"""
#: The SQL of a page.
PAGE = f"""
SELECT c.id::text, c.company_id, CASE WHEN split_part(c.chat_id, '@', 2) IN ('g.us', 'lid') THEN c.chat_id
        ELSE substr(c.contact_id, length(c.company_id) + 2) END,
    COALESCE(NULLIF(c.name, ''), c.contact_name), c.phone_index, c.last_message, COALESCE(c.unread_count, 0), c.at
FROM ({_NEWEST} LIMIT %(look)s) c
WHERE c.contact_id LIKE c.company_id || '-_%%' AND (%(wanted)s::text IS NULL OR c.name ILIKE %(wanted)s
    OR c.contact_name ILIKE %(wanted)s OR substr(c.contact_id, length(c.company_id) + 2) LIKE %(number)s)
ORDER BY c.at DESC, c.id DESC LIMIT %(limit)s"""
#: SQL of the last contact that a page looked at, and the one behind it.
END = f"SELECT at, id::text FROM ({_NEWEST} OFFSET %(look)s - 1 LIMIT 2) c"
_COMPANY = "company_id = %(company)s AND"
# A list without a search needs few more than it shows: rows of the former system may name no chat.
_SPARE = 100


@dataclass(frozen=True)
class Contact:
    """A row of the list."""

    id: str
    company: str
    chat: str
    name: str | None
    phone: int | None
    last: Mapping[str, Any]
    unread: int
    #: Seconds since the epoch.
    at: float


@dataclass(frozen=True)
class ContactPage:
    """A page of the list."""

    contacts: list[Contact]
    #: The position after which the next page begins; empty if there is none.
    following: str
    #: The contacts that a search looked at, if there are more that it did not look at.
    looked: int = 0


def page(connection: Connection, company: str | None, wanted: str, before: str, size: int) -> ContactPage:
    """Up to `size` contacts of one company or all, from a position on. `wanted`: a part of the number or the name."""
    at, after = parameters.position(before) or (None, None)
    digits = "".join(each for each in wanted if each.isdecimal())
    look = MAX_LOOK if wanted else size + _SPARE
    values = {
        "company": company, "wanted": containing(wanted or None), "at": at, "id": after,
        "number": f"%{digits}%" if digits else None, "limit": size + 1, "look": look,
    }  # fmt: skip
    found = [_contact(*row) for row in query(connection, statement(PAGE, company), values)]
    if len(found) > size:
        return ContactPage(found[:size], parameters.position_text(found[size - 1].at, found[size - 1].id))
    end = query(connection, statement(END, company), values)
    if len(end) < 2:
        return ContactPage(found, "")
    return ContactPage(found, parameters.position_text(*end[0]), look if wanted else 0)


def statement(text: str, company: str | None) -> str:
    """A statement about one company or all, each of which has an index."""
    return text.replace("{company}", _COMPANY if company else "")


def _contact(
    identity: str, company: str, chat: str, name: str | None, phone: int | None, last: Any, unread: int, at: float
) -> Contact:
    return Contact(identity, company, chat, name, phone, last if isinstance(last, dict) else {}, unread, at)
