"""Finds the message that a request names by an ID, ours or the provider's."""

from dataclasses import dataclass
from typing import Any

from services.api.messages.request_fields import InvalidChatId, normalise_chat_id
from services.database.connection import Connection, Database, as_uuid
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError
from services.message import Status
from services.outbox.store import CHANGING_KINDS

# One index look-up for each ID that a message may have. Rows of the old system have the provider's ID in either column.
# A row of ours without `external_id` has no ID of the provider yet.
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

_STATUS = """
SELECT message_id::text, status::text FROM outbox WHERE message_id = %(uuid)s::uuid AND company_id = %(company)s"""

#: The message that an edit or deletion changes, for callers that name it by the ID of the change.
_CHANGED = """
SELECT payload ->> 'targetMessageId' FROM outbox
WHERE message_id = %(uuid)s::uuid AND company_id = %(company)s AND kind IN ('edit', 'delete')"""

_IS_KEY_USED = "SELECT FROM idempotency_keys WHERE company_id = %s AND key = %s"

#: The status in the history of a message that was deleted for everyone.
REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Target:
    """The message that a request refers to."""

    named: str  # the ID in the request
    message_id: str  # ours
    chat_id: str
    phone_index: int | None  # None: the old system did not store it
    provider_id: str | None  # None: the provider does not have the message
    from_me: bool
    status: str

    @property
    def is_waiting(self) -> bool:
        """Whether the message may still be cancelled."""
        return self.provider_id is None and self.status in (Status.QUEUED, Status.WAITING)

    def sent_id(self) -> str:
        """The provider's ID. Raises `ApiError` (not_sent) if the message was not sent, or not yet."""
        if self.provider_id is None:
            state = self.status or "not sent"
            message = f"the message {self.named} is {state}: nothing can refer to it until it is sent"
            raise ApiError(ErrorCode.NOT_SENT, message)
        return self.provider_id

    def require_phone_index(self, phone_index: int) -> None:
        """Raise `ApiError` (unknown_message) if the message belongs to another bot."""
        if self.phone_index not in (None, phone_index):
            message = f"the message {self.named} belongs to phoneIndex {self.phone_index}, not to {phone_index}"
            raise ApiError(ErrorCode.UNKNOWN_MESSAGE, message)


def find(connection: Connection, company_id: str, named: str, phone_index: int | None = None) -> Target:
    """The company's message with this ID; if several have it, the one of the bot `phone_index`.

    Raises `ApiError`: 404 unknown_message, 409 ambiguous_message.
    """
    rows = _rows(connection, company_id, named)
    found: dict[str, Target] = {}
    for row in rows:  # the row of the outbox comes first; only the history says that a message was deleted
        target = _target(company_id, named, *row)
        if target is not None and (target.message_id not in found or target.status == REVOKED):
            found[target.message_id] = target
    return _only(named, list(found.values()), phone_index)


def outgoing(connection: Connection, company_id: str, named: str) -> tuple[str, str]:
    """The ID, ours, and the status of a message of the company; an edit, too, is one of its own here.

    Raises `ApiError`: 404 unknown_message, 409 ambiguous_message.
    """
    with connection.cursor() as cursor:
        cursor.execute(_STATUS, {"company": company_id, "uuid": as_uuid(named)})
        if row := cursor.fetchone():
            return row
    target = find(connection, company_id, named)
    return target.message_id, target.status


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
        raise ApiError(ErrorCode.AMBIGUOUS_MESSAGE, message)
    return found[0]


def require_not_deleted(database: Database, target: Target, company_id: str, idempotency_key: str | None) -> None:
    """Raise `ApiError` (message_deleted) if the message was deleted, unless the request repeats an earlier one."""
    if target.status != REVOKED:
        return
    if idempotency_key is not None:
        with database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_IS_KEY_USED, (company_id, idempotency_key))
            if cursor.rowcount:
                return
    message = f"the message {target.named} was deleted: it cannot be edited, deleted or reacted to"
    raise ApiError(ErrorCode.MESSAGE_DELETED, message)


def unknown(named: str, chat_id: str | None = None) -> ApiError:
    """The 404 for an ID that no message of the company, or of one of its chats, has."""
    owner = "the company" if chat_id is None else f"the chat {chat_id}"
    return ApiError(ErrorCode.UNKNOWN_MESSAGE, f"{owner} has no message with the id {named}")


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
    return None  # a status or a broadcast of the old system belongs to no chat
