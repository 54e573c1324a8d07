"""What the API reads: the messages of a chat in both directions, with their whole life. Plain SQL; it writes nothing.

What we were asked to send is in the outbox, what came in (and what the old system sent) in `messages` alone. Each of
the two is read through its index, newest first, and no further than the page reaches.
"""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from psycopg2.extras import RealDictCursor

from bisnesctl.database.statement_deadline import DeadlineCursor
from services.api.messages import view
from services.api.messages.holds import utc
from services.database.connection import Connection, as_uuid
from services.outbox.store import CHANGING_KINDS

Row = dict[str, Any]

#: The process whose numbers have a window of 24 hours.
_WINDOWED = "meta"
_LAST_ID = str(UUID(int=2**128 - 1))

# What a chat's row must look like in `messages`: two chats of different kinds may have the same digits.
_DOMAINS = {"g.us": ["g.us"], "lid": ["lid"], "": ["", "c.us", "s.whatsapp.net"]}

# Each number's page comes off the primary key, whatever the length of the chat.
_OUTBOX_PAGE = f"""
SELECT {view.OURS} FROM phone_configs p CROSS JOIN LATERAL (
    SELECT * FROM outbox
    WHERE bot_id = p.id AND chat_id = %(chat)s AND id < %(before)s AND company_id = p.company_id
        AND kind NOT IN {CHANGING_KINDS}
    ORDER BY id DESC LIMIT %(limit)s) o
LEFT JOIN messages m ON m.id = o.message_id
WHERE p.company_id = %(company)s AND (%(phone)s IS NULL OR p.phone_index = %(phone)s)
ORDER BY o.id DESC LIMIT %(limit)s"""

# Off the index idx_messages_chat; what is in the outbox as well is passed over.
_HISTORY_PAGE = f"""
SELECT {view.THEIRS} FROM messages m
WHERE m.company_id = %(company)s AND m.contact_id = %(contact)s
    AND m.timestamp >= %(since)s AND (m.timestamp, m.id) < (%(until)s, %(before)s::uuid)
    AND COALESCE(split_part(m.chat_id, '@', 2), '') = ANY(%(domains)s)
    AND (%(phone)s IS NULL OR m.phone_index = %(phone)s)
    AND NOT EXISTS (SELECT FROM outbox o WHERE o.message_id = m.id)
ORDER BY m.timestamp DESC, m.id DESC LIMIT %(limit)s"""

_OUR_ONE = f"""
SELECT {view.OURS} FROM outbox o LEFT JOIN messages m ON m.id = o.message_id
WHERE o.message_id = %(uuid)s::uuid AND o.company_id = %(company)s AND o.chat_id = %(chat)s"""

_NAMED = """m.company_id = %(company)s AND m.contact_id = %(contact)s
    AND COALESCE(split_part(m.chat_id, '@', 2), '') = ANY(%(domains)s)"""
_THEIR_ONE = f"""
SELECT * FROM (
    SELECT {view.THEIRS} FROM messages m WHERE {_NAMED} AND m.id = %(uuid)s::uuid
    UNION ALL SELECT {view.THEIRS} FROM messages m WHERE {_NAMED} AND m.message_id = %(id)s
    UNION ALL SELECT {view.THEIRS} FROM messages m WHERE {_NAMED} AND m.external_id = %(id)s
) found LIMIT 1"""

# What never became history, a reaction for example, is looked for among the messages of its chat.
_OF_CHAT = f"""
SELECT {view.OURS} FROM phone_configs p JOIN outbox o ON o.bot_id = p.id AND o.chat_id = %(chat)s
LEFT JOIN messages m ON m.id = o.message_id
WHERE p.company_id = %(company)s AND o.company_id = p.company_id AND o.provider_id = %(id)s
ORDER BY o.id DESC LIMIT 1"""

_WINDOW = """
SELECT count(*), max(c.window_until), COALESCE(max(c.window_until) > now(), false)
FROM phone_configs p LEFT JOIN chat c ON c.bot_id = p.id AND c.chat_id = %(chat)s
WHERE p.company_id = %(company)s AND (%(phone)s IS NULL OR p.phone_index = %(phone)s) 
    AND p.process_name = %(windowed)s"""


@dataclass(frozen=True, slots=True)
class Chat:
    """Whose messages are asked for."""

    company_id: str
    chat_id: str
    phone_index: int | None = None  # None: of all the company's numbers

    @property
    def values(self) -> dict[str, Any]:
        """What the statements above need."""
        name, _, domain = self.chat_id.partition("@")
        return {
            "company": self.company_id,
            "chat": self.chat_id,
            "contact": f"{self.company_id}-{name}",
            "domains": _DOMAINS[domain],
            "phone": self.phone_index,
        }


@dataclass(frozen=True, slots=True)
class Position:
    """How far a chat was read: everything before it, in each of the two sources, is still to come."""

    outbox: int  # outbox.id
    moment: datetime | None  # of messages.timestamp; None: nothing was read yet
    message: str = _LAST_ID  # messages.id, among those of the same moment

    def written(self) -> str:
        """As a cursor for callers, who need not know what is in it."""
        said = [self.outbox, self.moment and self.moment.isoformat(), self.message]
        return base64.urlsafe_b64encode(orjson.dumps(said)).decode().rstrip("=")

    @classmethod
    def read(cls, cursor: str) -> "Position":
        """The position of a cursor. Raises ValueError where it is none of ours."""
        padded = cursor + "=" * (-len(cursor) % 4)
        match orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True)):
            case [int(outbox), str() | None as moment, str(message)] if 0 <= outbox < 2**63:
                return cls(outbox, None if moment is None else _moment(moment), str(UUID(message)))
        raise ValueError(cursor)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() != timedelta(0):
        raise ValueError(text)
    return moment


#: Before the newest message.
START = Position(2**63 - 1, None)


def page(
    connection: Connection, chat: Chat, start: Position, limit: int, media_base: str
) -> tuple[list[Row], Position | None]:
    """Up to `limit` messages of a chat from `start`, newest first, and the start of the next page if there is one.

    `media_base`: what the links to our copies of media begin with.
    """
    values = chat.values | {"limit": limit + 1, "before": start.outbox}
    ours = _rows(connection, _OUTBOX_PAGE, values)
    # Nothing older than the outbox's part can come to stand on this page.
    since = min(row["moment"] for row in ours) if len(ours) > limit else "-infinity"
    values |= {"since": since, "until": start.moment or "infinity", "before": start.message}
    theirs = _rows(connection, _HISTORY_PAGE, values)
    merged, position = _merge(ours, theirs, start, limit)
    more = len(ours) + len(theirs) > len(merged)
    return [view.told(row, chat.chat_id, media_base) for row in merged], position if more else None


def _merge(ours: list[Row], theirs: list[Row], position: Position, limit: int) -> tuple[list[Row], Position]:
    """The newest `limit` rows of both, each in its own order, and the position behind them."""
    ours, theirs = ours[::-1], theirs[::-1]
    merged: list[Row] = []
    while (ours or theirs) and len(merged) < limit:
        if not ours or (theirs and theirs[-1]["moment"] > ours[-1]["moment"]):
            row = theirs.pop()
            position = Position(position.outbox, row["moment"].astimezone(UTC), row["messageId"])
        else:
            row = ours.pop()
            position = _passed(position, row)
        merged.append(row)
    return merged, position


def _passed(position: Position, row: Row) -> Position:
    """Behind a row of the outbox: what came in after it has been read as well."""
    moment: datetime = row["moment"].astimezone(UTC)
    if position.moment is None or position.moment > moment:
        return Position(row["number"], moment)
    return Position(row["number"], position.moment, position.message)


def message(connection: Connection, chat: Chat, message_id: str, media_base: str) -> Row | None:
    """The chat's message with this id, ours or the provider's."""
    values = chat.values | {"uuid": as_uuid(message_id), "id": message_id}
    found = _rows(connection, _OUR_ONE, values)
    if not found and (found := _rows(connection, _THEIR_ONE, values)):
        found = _rows(connection, _OUR_ONE, values | {"uuid": found[0]["messageId"]}) or found
    found = found or _rows(connection, _OF_CHAT, values)
    return view.told(found[0], chat.chat_id, media_base) if found else None


def window(connection: Connection, chat: Chat) -> Row | None:
    """Whether more than templates may be sent to the chat, and until when; None where no number has such a window."""
    with connection.cursor() as cursor:
        cursor.execute(_WINDOW, chat.values | {"windowed": _WINDOWED})
        numbers, until, is_open = cursor.fetchone() or (0, None, False)
    return {"open": is_open, "expiresAt": until and utc(until)} if numbers else None


class _RowCursor(DeadlineCursor, RealDictCursor):
    """Rows as dictionaries."""


def _rows(connection: Connection, statement: str, values: Row) -> list[Row]:
    with connection.cursor(cursor_factory=_RowCursor) as cursor:
        cursor.execute(statement, values)
        return [dict(row) for row in cursor.fetchall()]
