"""The messages of the queue: which wait, since when, and why.

Messages of a chat leave in their order, so each chat's oldest unfinished message decides for those behind it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bisnesctl.bots import causes
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import UsageError
from bisnesctl.queue import reasons
from bisnesctl.queue.lane_sql import FINISHED
from bisnesctl.queue.reasons import Place
from bisnesctl.queue.states import MAX_PAGE, State
from bisnesctl.queue.stats import HELD

#: The last possible number of a message.
_LAST_NUMBER = 2**63 - 1
_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """A filter of messages."""

    company: str | None = None
    phone: int | None = None
    chat: str | None = None  # as stored: digits, or with @g.us or @lid
    state: State | None = None  # None: every message that is not finished
    older_than: float | None = None  # seconds since its acceptance


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message. Times are ISO 8601 in UTC."""

    number: int  # its place in the order of acceptance, for `after`
    id: str
    company: str
    phone: int
    channel: str | None  # None: its bot was removed
    chat: str
    kind: str
    state: str  # a `State`, or its status in the outbox if it was sent
    accepted_at: str
    age_seconds: float
    attempts: int
    code: str | None  # of the last error
    error: str | None
    next_attempt_at: str | None  # None: as soon as it is its turn
    reason: str  # why it waits, or what became of it
    next: str | None  # the command to type; None: nothing is to be done


@dataclass(frozen=True, slots=True)
class MessageDetails(QueuedMessage):
    """A message with its whole life."""

    ahead: int = 0  # messages of its chat that leave before it
    first: str | None = None  # the chat's first message, if it is another one
    worker: str | None = None  # the worker that has it in hand
    provider_id: str | None = None
    request_id: str | None = None  # X-Request-Id of the request that it came with
    timeline: list[dict[str, Any]] = field(default_factory=list)
    payload: dict[str, Any] = field(default_factory=dict)


_BOTS = f"""bot AS (
    SELECT c.id, {HELD} AS held FROM phone_configs c LEFT JOIN bot_pace p ON p.bot_id = c.id
    WHERE (%(company)s IS NULL OR c.company_id = %(company)s) AND (%(phone)s IS NULL OR c.phone_index = %(phone)s)
)"""
_OLD = "(%(older)s IS NULL OR {0}.accepted_at < now() - %(older)s::float * interval '1 second')"
# `low` and `high` limit the ids of a lane's messages that match a state; `skip` is the one in hand.
_LANES = f"""lanes AS (
    SELECT l.bot_id, l.chat_id, f.id AS first, s.low, s.high, s.skip
    FROM bot b JOIN lane l ON l.bot_id = b.id CROSS JOIN LATERAL (
        SELECT o.id FROM outbox o WHERE o.bot_id = l.bot_id AND o.chat_id = l.chat_id
            AND o.id > {FINISHED} AND o.status <= 'sending'
        ORDER BY o.id LIMIT 1) f
    CROSS JOIN LATERAL (
        SELECT l.claim IS NOT NULL AS claimed, l.claim IS NULL AND l.due > now() AS later) t
    CROSS JOIN LATERAL (
        SELECT CASE WHEN %(state)s = 'waiting' AND t.later THEN f.id WHEN %(state)s = 'active' THEN l.head - 1
                    ELSE f.id - 1 END AS low,
               CASE WHEN %(state)s = 'active' THEN l.head WHEN %(state)s = 'delayed' AND NOT b.held THEN f.id
                    ELSE {_LAST_NUMBER} END AS high,
               CASE WHEN t.claimed AND %(state)s IN ('waiting', 'delayed') THEN l.head END AS skip) s
    WHERE l.pending > 0 AND (%(chat)s IS NULL OR l.chat_id = %(chat)s)
        AND CASE %(state)s WHEN 'active' THEN t.claimed WHEN 'delayed' THEN b.held OR t.later
                WHEN 'waiting' THEN NOT b.held ELSE true END
)"""
_MATCHES = f"""o.bot_id = l.bot_id AND o.chat_id = l.chat_id AND o.id > GREATEST(l.low, %(after)s) AND o.id <= l.high
    AND o.id IS DISTINCT FROM l.skip AND o.status <= 'sending' AND {_OLD.format("o")}"""
# Only the lanes with the oldest matching messages can have any of the page.
_WAITING = f"""
WITH {_BOTS}, {_LANES}, chosen AS (
    SELECT l.* FROM lanes l CROSS JOIN LATERAL (SELECT o.id FROM outbox o WHERE {_MATCHES} ORDER BY o.id LIMIT 1) m
    ORDER BY m.id LIMIT %(limit)s
)
SELECT m.bot_id, m.chat_id, m.id FROM chosen l CROSS JOIN LATERAL (
    SELECT o.bot_id, o.chat_id, o.id FROM outbox o WHERE {_MATCHES} ORDER BY o.id LIMIT %(limit)s) m
ORDER BY m.id LIMIT %(limit)s"""
_FAILED = f"""
WITH {_BOTS}
SELECT o.bot_id, o.chat_id, o.id FROM failed_message f JOIN outbox o USING (bot_id, id, chat_id)
WHERE f.bot_id IN (SELECT id FROM bot) AND f.id > %(after)s AND (%(chat)s IS NULL OR f.chat_id = %(chat)s)
    AND {_OLD.format("o")}
ORDER BY f.id LIMIT %(limit)s"""
_UNKNOWN = f"""
WITH {_BOTS}
SELECT o.bot_id, o.chat_id, o.id FROM unknown_message u JOIN outbox o USING (message_id)
WHERE o.status = 'unknown' AND o.bot_id IN (SELECT id FROM bot) AND o.id > %(after)s
    AND (%(chat)s IS NULL OR o.chat_id = %(chat)s) AND {_OLD.format("o")}
ORDER BY o.id LIMIT %(limit)s"""
_ALL_IDS = f"""
WITH {_BOTS}, {_LANES}
SELECT o.message_id::text, extract(epoch FROM now() - o.accepted_at)::float
FROM lanes l JOIN outbox o ON {_MATCHES} ORDER BY o.id LIMIT %(limit)s"""

_ISO = "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
#: The row of each message with its place in its chat, in the order of acceptance.
_ROWS = f"""
SELECT o.id AS number, o.message_id::text AS id, o.bot_id, o.company_id AS company, o.phone_index AS phone,
       c.process_name AS channel, o.chat_id AS chat, o.kind, o.status::text AS status,
       {_ISO.format("o.accepted_at")} AS accepted_at, extract(epoch FROM now() - o.accepted_at)::float AS age,
       o.attempts, o.error_code AS code, o.error, o.provider_id, o.request_id, o.timeline, o.payload,
       o.status <= 'sending' AND l.claim IS NOT NULL AND l.head = o.id AS in_hand, l.claim,
       l.due <= now() AS lease_over,
       CASE WHEN l.claim IS NULL AND l.due > now() THEN {_ISO.format("l.due")} END AS due,
       CASE WHEN f.id IS DISTINCT FROM o.id THEN f.message_id::text END AS first,
       f.error_code AS first_code, f.error AS first_error, l.claim IS NOT NULL AND l.head = f.id AS first_in_hand
FROM unnest(%(bots)s::int[], %(chats)s::text[], %(ids)s::bigint[]) AS chosen (bot_id, chat_id, id)
    JOIN outbox o USING (bot_id, chat_id, id) LEFT JOIN lane l USING (bot_id, chat_id)
    LEFT JOIN phone_configs c ON c.id = o.bot_id AND c.company_id = o.company_id
    LEFT JOIN LATERAL (
        SELECT e.* FROM outbox e WHERE e.bot_id = o.bot_id AND e.chat_id = o.chat_id AND o.status <= 'sending'
            AND e.id > {FINISHED} AND e.status <= 'sending'
        ORDER BY e.id LIMIT 1) f ON true
ORDER BY o.id"""
_AHEAD = f"""
SELECT count(*)::int FROM outbox o JOIN lane l USING (bot_id, chat_id)
WHERE o.bot_id = %s AND o.chat_id = %s AND o.id < %s AND o.status <= 'sending'
    AND o.id > {FINISHED}"""
_BY_ID = """
SELECT bot_id, chat_id, id FROM outbox
WHERE message_id = %(id)s::uuid AND (%(company)s IS NULL OR company_id = %(company)s)"""
_BY_PROVIDER_ID = """
SELECT o.bot_id, o.chat_id, o.id FROM messages m JOIN outbox o ON o.message_id = m.id
WHERE m.external_id = %(id)s AND (%(company)s IS NULL OR o.company_id = %(company)s)"""

_Key = tuple[int, str, int]


def find(connection: Connection, wanted: QueueFilter, limit: int, after: int = 0) -> tuple[list[QueuedMessage], bool]:
    """The messages that match, oldest first, and whether there are more. `after`: the `number` of the last one seen."""
    limit = min(limit, MAX_PAGE)
    values = _values(wanted) | {"after": after, "limit": limit + 1}
    statements = {State.FAILED: _FAILED, State.UNKNOWN: _UNKNOWN}
    keys = query(connection, statements.get(wanted.state, _WAITING) if wanted.state else _WAITING, values)
    places = _places(connection, [(bot, chat, number) for bot, chat, number in keys[:limit]])
    return [QueuedMessage(**_fields(each)) for each in places], len(keys) > limit


def ids_waiting(connection: Connection, wanted: QueueFilter, limit: int) -> list[tuple[str, float]]:
    """The ids of the unfinished messages that match, oldest first, each with its age in seconds."""
    values = _values(wanted) | {"after": 0, "limit": limit}
    return [(message_id, age) for message_id, age in query(connection, _ALL_IDS, values)]


def find_by_id(connection: Connection, message_id: str, company: str | None = None) -> MessageDetails | None:
    """The message with our id or the provider's, of a company or any; None if there is none in the outbox."""
    place = find_place(connection, message_id, company)
    if place is None:
        return None
    row = place.row
    return MessageDetails(
        **_fields(place),
        ahead=ahead_of(connection, place),
        first=row["first"],
        worker=row["claim"] if row["in_hand"] else None,
        provider_id=row["provider_id"],
        request_id=row["request_id"],
        timeline=row["timeline"],
        payload=row["payload"],
    )


def find_place(connection: Connection, message_id: str, company: str | None = None) -> Place | None:
    """The row of a message with its place in its chat; see `find_by_id`."""
    statement = _BY_ID if _UUID.fullmatch(message_id) else _BY_PROVIDER_ID
    keys = query(connection, statement, {"id": message_id, "company": company})
    places = _places(connection, [(bot, chat, number) for bot, chat, number in keys[:1]])
    return places[0] if places else None


def ahead_of(connection: Connection, place: Place) -> int:
    """The number of messages of its chat that leave before it."""
    row = place.row
    if not place.unfinished:
        return 0
    return int(query(connection, _AHEAD, (row["bot_id"], row["chat"], row["number"]))[0][0])


def get(connection: Connection, message_id: str, company: str | None = None) -> MessageDetails:
    """The message as `find_by_id` finds it. Raises `UsageError` if there is none."""
    found = find_by_id(connection, message_id, company)
    if found is None:
        raise UsageError(f"there is no message {message_id}: `bisnesctl queue list` shows those that wait")
    return found


def _values(wanted: QueueFilter) -> dict[str, Any]:
    return {
        "company": wanted.company,
        "phone": wanted.phone,
        "chat": wanted.chat,
        "state": wanted.state and wanted.state.value,
        "older": wanted.older_than,
    }


def _places(connection: Connection, keys: Sequence[_Key]) -> list[Place]:
    if not keys:
        return []
    bots, chats, ids = (list(column) for column in zip(*keys, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, {"bots": bots, "chats": chats, "ids": ids})
        names = [each.name for each in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    situations = causes.situations(connection, sorted({row["bot_id"] for row in rows}))
    return [Place(row, situations.get(row["bot_id"])) for row in rows]


def _fields(place: Place) -> dict[str, Any]:
    row = place.row
    names = ("number", "id", "company", "phone", "channel", "chat", "kind", "accepted_at", "attempts", "code", "error")
    reason, command = reasons.explain(place)
    return {name: row[name] for name in names} | {
        "state": reasons.state_of(place),
        "age_seconds": round(row["age"], 1),
        "next_attempt_at": place.next_attempt_at,
        "reason": reason,
        "next": command,
    }
