"""The message that a request names by an id: any that we or its provider ever gave it."""

from dataclasses import dataclass
from typing import Any

from services.api.messages.request_fields import InvalidChatId, normalise_chat_id
from services.database.connection import Connection, as_uuid
from services.http_server.errors import ApiError
from services.outbox.store import CHANGING_KINDS

#: Characters in an id, at most.
MAX_ID = 255

# One look-up in an index for each name that a message may go by. What the old system wrote has the provider's id in
# either column; a row of ours that has none in `external_id` is known to no provider yet.
_HISTORY = """
SELECT m.id::text, COALESCE(m.chat_id, ''), COALESCE(m.contact_id, ''), m.phone_index,
       COALESCE(m.external_id, CASE WHEN m.message_id <> m.id::text THEN m.message_id END),
       COALESCE(m.from_me, m.direction = 'outbound', false), COALESCE(m.status, '')
FROM messages m WHERE m.company_id = %(company)s AND """
_FIND = f"""
SELECT o.message_id::text, o.chat_id, '', o.phone_index, o.provider_id, true, o.status::text FROM outbox o
WHERE o.message_id = %(uuid)s::uuid AND o.company_id = %(company)s AND o.kind NOT IN {CHANGING_KINDS}
UNION ALL {_HISTORY} m.id = %(uuid)s::uuid
UNION ALL {_HISTORY} m.message_id = %(id)s
UNION ALL {_HISTORY} m.external_id = %(id)s"""

#: What an edit or a deletion is about: its id leads there, for callers that keep the last id they were given.
_CHANGED = """
SELECT payload ->> 'targetMessageId' FROM outbox
WHERE message_id = %(uuid)s::uuid AND company_id = %(company)s AND kind IN ('edit', 'delete')"""


@dataclass(frozen=True, slots=True)
class Target:
    """A message that something is to be done with."""

    named: str  # the id by which it was asked for
    message_id: str  # ours
    chat_id: str
    phone_index: int | None  # None: the old system did not say
    provider_id: str | None  # None: the provider does not have it
    from_me: bool
    status: str

    def sent_id(self) -> str:
        """The provider's id. Raises `ApiError` (not_sent) where the message did not leave, or not yet."""
        if self.provider_id is None:
            state = self.status or "not sent"
            message = f"the message {self.named} is {state}: nothing can refer to it until it is sent"
            raise ApiError(409, "not_sent", message)
        return self.provider_id


def find(connection: Connection, company_id: str, named: str, phone_index: int | None = None) -> Target:
    """The company's message that goes by this id; where several do, that of the number `phone_index`.

    Raises `ApiError`: 404 unknown_message, 409 ambiguous_message.
    """
    rows = _rows(connection, company_id, named)
    found: dict[str, Target] = {}
    for row in rows:  # what the outbox says of a message comes first
        if (target := _target(company_id, named, *row)) is not None:
            found.setdefault(target.message_id, target)
    return _only(named, list(found.values()), phone_index)


def _rows(connection: Connection, company_id: str, named: str) -> list[tuple[Any, ...]]:
    values = {"company": company_id, "id": named, "uuid": as_uuid(named)}
    with connection.cursor() as cursor:
        cursor.execute(_FIND, values)
        if rows := cursor.fetchall():
            return rows
        cursor.execute(_CHANGED, values)
        changed = cursor.fetchone()
    return _rows(connection, company_id, changed[0]) if changed else []


def _only(named: str, found: list[Target], phone_index: int | None) -> Target:
    if len(found) > 1 and phone_index is not None:
        found = [target for target in found if target.phone_index == phone_index]
    if not found:
        raise unknown(named)
    if len(found) > 1:
        numbers = ", ".join(sorted(str(target.phone_index) for target in found))
        message = f"several messages go by the id {named} (of the phoneIndexes {numbers}): name phoneIndex"
        raise ApiError(409, "ambiguous_message", message)
    return found[0]


def unknown(named: str) -> ApiError:
    """The 404 for an id that no message of the company goes by."""
    return ApiError(404, "unknown_message", f"the company has no message with the id {named}")


def _target(
    company_id: str, named: str, message_id: str, chat: str, contact: str, phone_index: int | None,
    provider_id: str | None, from_me: bool, status: str,
) -> Target | None:  # fmt: skip
    for name in (chat, contact):
        try:
            chat_id = normalise_chat_id(name, company_id)
        except InvalidChatId:
            continue
        return Target(named, message_id, chat_id, phone_index, provider_id, from_me, status)
    return None  # of no chat that could be named: a status or a broadcast of the old system
