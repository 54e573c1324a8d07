"""Reads the messages of a chat, in both directions, and serialises them for API responses.

Messages that we were asked to send are in the outbox. Received messages, and those that the old system sent, are in
`messages` alone. Each source is read through its index, newest first, and no further than the page needs.
"""

import base64
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from psycopg2.extras import RealDictCursor

from bisnesctl.database.statement_deadline import DeadlineCursor
from services.database.connection import Connection, as_uuid
from services.message import Status
from services.outbox.store import CHANGING_KINDS

Row = dict[str, Any]

#: The channel whose chats have a window of 24 hours.
_WINDOWED = "meta"
_LAST_ID = str(UUID(int=2**128 - 1))

#: SQL of the hold of a row `o` of the outbox, as JSON; NULL if nothing holds its bot.
_HOLD = """CASE WHEN o.status <= 'sending' THEN (
        SELECT CASE WHEN p.paused_until > now() THEN jsonb_build_object('needsOperator', NOT isfinite(p.paused_until),
            'since', p.paused_at, 'until', CASE WHEN isfinite(p.paused_until) THEN p.paused_until END,
            'reason', concat_ws(': ', CASE WHEN p.paused_by_company THEN 'paused by the company'
                ELSE 'paused by an operator' END, p.paused_reason))
        ELSE jsonb_build_object('needsOperator', NOT isfinite(p.held_until),
            'since', COALESCE(CASE WHEN p.held_until > now() THEN p.held_at END, p.outage_since),
            'until', CASE WHEN isfinite(p.held_until) AND p.held_until > now() THEN p.held_until END,
            'reason', CASE WHEN p.outage_since IS NULL OR p.held_until = 'infinity'
                    OR p.hold_code IS NOT NULL AND p.held_until > now() THEN p.held_reason
                ELSE p.outage_code || ': ' || p.outage_reason END) END
        FROM bot_pace p WHERE p.bot_id = o.bot_id
            AND (p.held_until > now() OR p.outage_since IS NOT NULL OR p.paused_until > now())) END"""

_HOLDS = f"SELECT o.message_id::text, {_HOLD} FROM outbox o WHERE o.message_id = ANY(%s::uuid[])"

# The lane alone says whether a worker has claimed the message, the bot's hold or outage whether it waits for more than
# its turn.
#: Columns of a row `o` of the outbox and, if the message was sent, of its row `m` of the history.
_OUTBOX_COLUMNS = f"""
    o.id AS number, o.accepted_at AS moment, o.message_id::text AS "messageId", o.company_id AS "companyId",
    o.phone_index AS "phoneIndex", true AS "fromMe", o.kind, o.payload,
    CASE WHEN m.status = 'revoked' THEN 'revoked' WHEN o.status <= 'sending' AND EXISTS (
        SELECT FROM lane l
        WHERE l.bot_id = o.bot_id AND l.chat_id = o.chat_id AND l.head = o.id AND l.claim IS NOT NULL
    ) THEN 'sending' WHEN o.status = 'queued' AND EXISTS (
        SELECT FROM bot_pace p WHERE p.bot_id = o.bot_id AND (
            p.held_until = 'infinity' OR p.hold_code IS NOT NULL AND p.held_until > now() OR p.outage_reported
            OR p.paused_until > now())
    ) THEN 'waiting' ELSE o.status::text END AS status, {_HOLD} AS hold,
    o.attempts, o.error_code AS code, o.error AS reason, o.provider_id AS "providerId", o.request_id AS "requestId",
    GREATEST(o.updated_at, m.reaction_timestamp, m.edited_at) AS changed, o.timeline, m.reaction,
    COALESCE(m.edited, false) AS edited, m.content AS edited_text"""

#: Columns of a row `m` of the history that has no row in the outbox.
_HISTORY_COLUMNS = """
    m.timestamp AS moment, m.id::text AS "messageId", m.company_id AS "companyId",
    m.phone_index AS "phoneIndex",
    COALESCE(m.from_me, m.direction = 'outbound', false) AS "fromMe", COALESCE(m.message_type, 'unknown') AS kind,
    m.content AS body, m.author, COALESCE(m.status, '') AS status,
    COALESCE(m.external_id, m.message_id) AS "providerId",
    GREATEST(m.timestamp, m.reaction_timestamp, m.edited_at) AS changed, m.reaction,
    COALESCE(m.edited, false) AS edited, m.media_url, m.media_metadata AS metadata, m.quoted_message AS quoted"""

# The other ids of the chat that is asked for: forms of the number and user ids permanently, a former phone number until
# the person left it. Later messages under such a number are of another person.
_NAMES = """
WITH canonical AS (
    SELECT chat_of(%(company)s, %(chat)s) AS id
), names AS (
    SELECT id, COALESCE((
        SELECT max(valid_until) FROM chat_alias a
        WHERE a.company_id = %(company)s AND a.alias = c.id AND a.valid_until < 'infinity'
    ), '-infinity'::timestamptz) AS since, 'infinity'::timestamptz AS until FROM canonical c
    UNION ALL
    SELECT a.alias, '-infinity'::timestamptz, a.valid_until FROM canonical c
    JOIN chat_alias a ON a.company_id = %(company)s AND a.chat_id = c.id
)"""

# As a plain range, the planner would expect few rows and sort the whole chat.
_DURING = "CASE WHEN isfinite(n.since) OR isfinite(n.until) THEN {0} > n.since AND {0} <= n.until ELSE true END"

# Two chats of different kinds may have the same digits.
_NAMED = f"""m.company_id = %(company)s AND m.contact_id = %(company)s || '-' || split_part(n.id, '@', 1)
    AND COALESCE(split_part(m.chat_id, '@', 2), '') = ANY (CASE split_part(n.id, '@', 2)
        WHEN '' THEN ARRAY['', 'c.us', 's.whatsapp.net'] ELSE ARRAY[split_part(n.id, '@', 2)] END)
    AND {_DURING.format("m.timestamp")}"""

# Each bot's page is read from the primary key, so the length of the chat does not matter.
_OUTBOX_PAGE = f"""{_NAMES}
SELECT {_OUTBOX_COLUMNS} FROM names n CROSS JOIN phone_configs p CROSS JOIN LATERAL (
    SELECT * FROM outbox
    WHERE bot_id = p.id AND chat_id = n.id AND id < %(before)s AND company_id = p.company_id
        AND {_DURING.format("accepted_at")} AND kind NOT IN {CHANGING_KINDS}
    ORDER BY id DESC LIMIT %(limit)s) o
LEFT JOIN messages m ON m.id = o.message_id
WHERE p.company_id = %(company)s AND (%(phone)s IS NULL OR p.phone_index = %(phone)s)
ORDER BY o.id DESC LIMIT %(limit)s"""

# Read from the index idx_messages_chat; messages that are in the outbox as well are skipped.
_HISTORY_PAGE = f"""{_NAMES}
SELECT {_HISTORY_COLUMNS} FROM names n CROSS JOIN LATERAL (
    SELECT * FROM messages m
    WHERE {_NAMED} AND m.timestamp >= %(since)s AND (m.timestamp, m.id) < (%(until)s, %(before)s::uuid)
        AND (%(phone)s IS NULL OR m.phone_index = %(phone)s)
        AND NOT EXISTS (SELECT FROM outbox o WHERE o.message_id = m.id)
    ORDER BY m.timestamp DESC, m.id DESC LIMIT %(limit)s) m
ORDER BY m.timestamp DESC, m.id DESC LIMIT %(limit)s"""

_OUTBOX_MESSAGE = f"""{_NAMES}
SELECT {_OUTBOX_COLUMNS} FROM outbox o LEFT JOIN messages m ON m.id = o.message_id
WHERE o.message_id = %(uuid)s::uuid AND o.company_id = %(company)s AND o.chat_id IN (SELECT id FROM names)"""

_HISTORY_MESSAGE = f"""{_NAMES}
SELECT * FROM (
    SELECT {_HISTORY_COLUMNS} FROM names n JOIN messages m ON {_NAMED} WHERE m.id = %(uuid)s::uuid
    UNION ALL SELECT {_HISTORY_COLUMNS} FROM names n JOIN messages m ON {_NAMED} WHERE m.message_id = %(id)s
    UNION ALL SELECT {_HISTORY_COLUMNS} FROM names n JOIN messages m ON {_NAMED} WHERE m.external_id = %(id)s
) found LIMIT 1"""

# Messages that never become history, such as reactions, are found among the messages of their chat.
_OUTBOX_BY_PROVIDER_ID = f"""{_NAMES}
SELECT {_OUTBOX_COLUMNS} FROM names n CROSS JOIN phone_configs p JOIN outbox o ON o.bot_id = p.id AND o.chat_id = n.id
LEFT JOIN messages m ON m.id = o.message_id
WHERE p.company_id = %(company)s AND o.company_id = p.company_id AND o.provider_id = %(id)s
ORDER BY o.id DESC LIMIT 1"""

_WINDOW = f"""{_NAMES}
SELECT count(*), max(c.window_until), COALESCE(max(c.window_until) > now(), false)
FROM phone_configs p
LEFT JOIN chat c ON c.bot_id = p.id AND c.chat_id IN (SELECT id FROM names WHERE until = 'infinity')
WHERE p.company_id = %(company)s AND (%(phone)s IS NULL OR p.phone_index = %(phone)s)
    AND p.process_name = %(windowed)s"""


@dataclass(frozen=True, slots=True)
class Chat:
    """Whose messages are asked for."""

    company_id: str
    chat_id: str
    phone_index: int | None = None  # None: of all bots of the company

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of the statements above."""
        return {"company": self.company_id, "chat": self.chat_id, "phone": self.phone_index}


@dataclass(frozen=True, slots=True)
class Position:
    """How far a chat has been read, in each of the two sources."""

    outbox: int  # outbox.id
    moment: datetime | None  # of messages.timestamp; None: nothing was read yet
    message: str = _LAST_ID  # messages.id, among those of the same moment

    def cursor(self) -> str:
        """The position as an opaque cursor for callers."""
        parts = [self.outbox, self.moment and self.moment.isoformat(), self.message]
        return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")

    @classmethod
    def read(cls, cursor: str) -> "Position":
        """The position of a cursor. Raises ValueError if the cursor is not valid."""
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

    `media_base`: the beginning of the links to our copies of media.
    """
    values = chat.values | {"limit": limit + 1, "before": start.outbox}
    accepted = _rows(connection, _OUTBOX_PAGE, values)
    # Messages older than those of the outbox cannot be on this page.
    since = min(row["moment"] for row in accepted) if len(accepted) > limit else "-infinity"
    values |= {"since": since, "until": start.moment or "infinity", "before": start.message}
    received = _rows(connection, _HISTORY_PAGE, values)
    merged, position = _merge(accepted, received, start, limit)
    more = len(accepted) + len(received) > len(merged)
    return [_serialised(row, chat.chat_id, media_base) for row in merged], position if more else None


def _merge(accepted: list[Row], received: list[Row], position: Position, limit: int) -> tuple[list[Row], Position]:
    """The newest `limit` rows of both sources, newest first, and the position after them."""
    accepted, received = accepted[::-1], received[::-1]
    merged: list[Row] = []
    while (accepted or received) and len(merged) < limit:
        if not accepted or (received and received[-1]["moment"] > accepted[-1]["moment"]):
            row = received.pop()
            position = Position(position.outbox, row["moment"].astimezone(UTC), row["messageId"])
        else:
            row = accepted.pop()
            position = _passed(position, row)
        merged.append(row)
    return merged, position


def _passed(position: Position, row: Row) -> Position:
    """The position after a row of the outbox: messages received after it have been read as well."""
    moment: datetime = row["moment"].astimezone(UTC)
    if position.moment is None or position.moment > moment:
        return Position(row["number"], moment)
    return Position(row["number"], position.moment, position.message)


def message(connection: Connection, chat: Chat, message_id: str, media_base: str) -> Row | None:
    """The chat's message with this ID, ours or the provider's; None if there is none."""
    values = chat.values | {"uuid": as_uuid(message_id), "id": message_id}
    found = _rows(connection, _OUTBOX_MESSAGE, values)
    if not found and (found := _rows(connection, _HISTORY_MESSAGE, values)):
        found = _rows(connection, _OUTBOX_MESSAGE, values | {"uuid": found[0]["messageId"]}) or found
    found = found or _rows(connection, _OUTBOX_BY_PROVIDER_ID, values)
    return _serialised(found[0], chat.chat_id, media_base) if found else None


def window(connection: Connection, chat: Chat) -> Row | None:
    """Whether the chat's window of 24 hours is open, and until when; None if no bot of the company has such windows."""
    with connection.cursor() as cursor:
        cursor.execute(_WINDOW, chat.values | {"windowed": _WINDOWED})
        numbers, until, is_open = cursor.fetchone() or (0, None, False)
    return {"open": is_open, "expiresAt": until and _utc(until)} if numbers else None


class _RowCursor(DeadlineCursor, RealDictCursor):
    """Rows as dictionaries."""


def _rows(connection: Connection, statement: str, values: Row) -> list[Row]:
    with connection.cursor(cursor_factory=_RowCursor) as cursor:
        cursor.execute(statement, values)
        return [dict(row) for row in cursor.fetchall()]


def holds_of(connection: Connection, message_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """The holds of those messages that wait and are held, by message ID."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLDS, (list(message_ids),))
        return {message_id: _serialised_hold(hold) for message_id, hold in cursor.fetchall() if hold}


#: Fields of a stored payload that only the workers use.
_INTERNAL = {"quoted_provider_id", "target_provider_id"}
#: The same for its file.
_INTERNAL_MEDIA = {"key", "fetch", "refused"}


def _serialised(row: Row, chat_id: str, media_base: str) -> Row:
    """A message for an API response, from `_OUTBOX_COLUMNS` or `_HISTORY_COLUMNS`."""
    common = {name: row[name] for name in ("messageId", "companyId", "phoneIndex", "fromMe", "kind", "status")}
    return (
        common
        | {"chatId": chat_id, "direction": "outbound" if row["fromMe"] else "inbound"}
        | {"reaction": row["reaction"], "edited": row["edited"], "providerId": row["providerId"]}
        | {"requestId": row.get("requestId")}
        | {"timestamp": _utc(row["moment"]), "updatedAt": _utc(row["changed"])}
        | (_outbox_fields(row, media_base) if "payload" in row else _history_fields(row))
    )


def _outbox_fields(row: Row, media_base: str) -> Row:
    payload, code, reason = _as_it_is_now(row), row["code"], row["reason"]
    shown = {name: value for name, value in payload.items() if name not in _INTERNAL}
    if "media" in shown:
        shown["media"] = {name: value for name, value in shown["media"].items() if name not in _INTERNAL_MEDIA}
    quoted = payload.get("quoted_provider_id")
    return {
        "payload": shown,
        "body": payload.get("message") or payload.get("caption") or payload.get("templateName"),
        "media": _outbox_file(row, payload, media_base) if "media" in payload else None,
        "replyTo": {"id": quoted} if quoted else None,
        "author": payload.get("userName"),
        "statuses": [{"status": Status.QUEUED, "at": _utc(row["moment"])}, *_statuses(row["timeline"])],
        "attempts": row["attempts"],
        "error": {"code": code, "reason": reason} if code or reason else None,
        "hold": _serialised_hold(row["hold"]) if row["hold"] else None,
    }


def _as_it_is_now(row: Row) -> Row:
    """The payload as it was accepted, with the text of the last edit."""
    payload: Row = row["payload"]
    if not row["edited"] or not isinstance(row["edited_text"], str):
        return payload
    return payload | {"message" if "message" in payload else "caption": row["edited_text"]}


def _outbox_file(row: Row, payload: Row, media_base: str) -> Row:
    media = payload["media"]
    url = media.get("link") or f"{media_base}/api/v2/media/{row['companyId']}/{row['messageId']}"
    filename = payload.get("filename") or media.get("filename")
    return _file(media | {"filename": filename, "voice": payload.get("voice")}, url)


def _history_fields(row: Row) -> Row:
    metadata = row["metadata"] if isinstance(row["metadata"], dict) else {}
    content, quoted = metadata.get("content"), row["quoted"]
    quoted_id = quoted.get("id") if isinstance(quoted, dict) else None
    return {
        "payload": content if isinstance(content, dict) else {},
        "body": row["body"],
        "media": _file(metadata, row["media_url"]) if row["media_url"] or _type(metadata) else None,
        "replyTo": {"id": quoted_id} if isinstance(quoted_id, str) else None,
        "author": row["author"],
        "statuses": [],
        "attempts": 0,
        "error": None,
        "hold": None,
    }


def _file(about: Row, url: str | None) -> Row:
    """A file, as we, the provider or the old system described it."""
    size = about.get("size")
    return {
        "url": url,
        "mimeType": _type(about),
        "filename": _string(about.get("filename")),
        "size": size if isinstance(size, int) else None,
        "sha256": _string(about.get("sha256")),
        "voice": about.get("voice") is True,
    }


def _type(about: Row) -> str | None:
    return _string(about.get("mimeType") or about.get("mimetype"))


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_STAGES = {status: place for place, status in enumerate(Status)} | {Status.QUEUED: 0, Status.WAITING: 0}


def _statuses(timeline: list[Row]) -> list[Row]:
    """The timeline in the order of a message's life; the provider's reports may arrive in a different order."""
    entries = sorted(timeline, key=lambda entry: _STAGES[Status(entry["status"])])
    return [
        {"reason" if name == "error" else name: value for name, value in entry.items()}
        | {"at": _utc(datetime.fromisoformat(entry["at"]))}
        for entry in entries
    ]


def _serialised_hold(hold: dict[str, Any]) -> dict[str, Any]:
    return hold | {name: hold[name] and _utc(datetime.fromisoformat(hold[name])) for name in ("since", "until")}


def _utc(moment: datetime) -> str:
    """Such as 2025-01-31T08:00:00.125Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
