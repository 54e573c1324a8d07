"""One person, one chat: follows people to their new numbers and user ids."""

from collections.abc import Sequence

import orjson

from services.database.connection import Connection, query, query_one, query_value
from services.events.payload_sql import RENAMED_EVENT
from services.inbox.arrivals import Place
from services.message import Incoming, Peer, Renaming
from services.outbox.reports import NumberedEvent

_CHAT = """
SELECT COALESCE(chat_of(%(company)s, %(number)s, to_timestamp(%(at)s)), (
    SELECT chat_id FROM chat WHERE bot_id = %(bot)s AND user_id = %(user)s
    ORDER BY chat_id = user_id, last_inbound_at DESC NULLS LAST LIMIT 1), chat_of(%(company)s, %(user)s))"""
_MOVE = "SELECT move_chat(%s, %s, %s, CASE WHEN %s THEN to_timestamp(%s) ELSE 'infinity' END)"
# Of an older report than the chat's last message, nothing is to be learned.
_USER = """
WITH former AS (
    UPDATE chat SET user_id = NULL WHERE bot_id = %(bot)s AND user_id = %(user)s AND chat_id <> %(chat)s
)
INSERT INTO chat AS c (bot_id, chat_id, user_id) VALUES (%(bot)s, %(chat)s, %(user)s)
ON CONFLICT (bot_id, chat_id) DO UPDATE SET user_id = excluded.user_id WHERE c.user_id IS DISTINCT FROM excluded.user_id
RETURNING 1"""
_ALIAS = """
INSERT INTO chat_alias (company_id, alias, chat_id) SELECT %(company)s, %(alias)s, %(chat)s
WHERE %(alias)s <> %(chat)s AND NOT EXISTS (SELECT FROM chat_alias WHERE company_id = %(company)s
    AND (alias = %(alias)s AND valid_until = 'infinity' OR alias = %(chat)s AND chat_id = %(alias)s))
ON CONFLICT DO NOTHING"""
_REPOINTED = """
UPDATE chat_alias a SET chat_id = %(chat)s
WHERE company_id = %(company)s AND alias = %(alias)s AND valid_until = 'infinity' AND chat_id <> %(chat)s
    AND alias <> %(chat)s
    AND NOT EXISTS (SELECT FROM chat_alias b WHERE b.company_id = a.company_id AND b.alias = a.alias
                    AND b.chat_id = %(chat)s)"""
_NAME = "SELECT name FROM contacts WHERE company_id = %s AND contact_id = %s || '-' || split_part(%s, '@', 1)"
_EVENT = f"""
SELECT w.n, {RENAMED_EVENT}::text FROM json_to_record(%s::json) AS w (
    n int, company_id text, phone_index int, chat_id text, previous text, user_id text, previous_user text, name text,
    at float) JOIN event_feed USING (company_id)"""

# People whose user id belongs to another chat than their number: a hidden number became known, or changed.
_ELSEWHERE = """
SELECT DISTINCT ON (g.bot_id, g.user_id) g.n, c.chat_id, g.chat, c.last_inbound_at IS NOT NULL FROM (
    SELECT g.*, chat_of(g.company_id, g.chat_id, to_timestamp(g.at)) AS chat
    FROM json_to_recordset(%s::json) AS g (
        n int, bot_id int, company_id varchar, chat_id text, user_id text, at float)
) g CROSS JOIN LATERAL (
    SELECT chat_id, last_inbound_at FROM chat WHERE bot_id = g.bot_id AND user_id = g.user_id
    UNION ALL
    SELECT a.chat_id, NULL FROM chat_alias a
    WHERE a.company_id = g.company_id AND a.alias = g.user_id AND a.valid_until = 'infinity') c
WHERE c.chat_id <> g.chat AND (c.last_inbound_at IS NULL OR c.last_inbound_at <= to_timestamp(g.at))
ORDER BY g.bot_id, g.user_id, c.last_inbound_at IS NULL, g.at, g.n"""


def follow(connection: Connection, arrivals: Sequence[tuple[Place, Renaming]]) -> list[NumberedEvent]:
    """Let the chats of people who reported a new number or user id follow them; returns the events."""
    return [event for place, renaming in arrivals for event in _follow(connection, place, renaming)]


def follow_senders(connection: Connection, arrivals: Sequence[tuple[Place, Incoming]]) -> list[NumberedEvent]:
    """The same for people whose messages show that they have another number; before their messages are stored."""
    known = {
        place.n: (place, message)
        for place, message in arrivals
        if message.sender.chat_id and message.sender.user_id and not message.from_me and not message.backfill
    }
    rows = [
        {"n": n, "bot_id": place.bot_id, "company_id": place.company_id, "at": message.at}
        | {"chat_id": message.sender.chat_id, "user_id": message.sender.user_id}
        for n, (place, message) in known.items()
    ]
    if not rows:
        return []
    events: list[NumberedEvent] = []
    for n, former, chat, wrote in query(connection, _ELSEWHERE, (orjson.dumps(rows).decode(),)):
        place, message = known[n]
        sender, company = message.sender, place.company_id
        if wrote and former.isdigit() and chat.isdigit():
            renaming = Renaming(message.number, Peer(former, sender.user_id), sender, message.at)
            events += _follow(connection, place, renaming)
        else:
            _name_chat(connection, company, chat, sender.user_id)
            query(connection, _USER, {"bot": place.bot_id, "user": sender.user_id, "chat": chat})
    return events


def _follow(connection: Connection, place: Place, renaming: Renaming) -> list[NumberedEvent]:
    previous, current, company = renaming.previous, renaming.current, place.company_id
    former = _chat_of(connection, place, previous, renaming.at)
    has_number = bool(current.chat_id) and current.chat_id != previous.chat_id
    # Without a number, the chat of a known number stays where it is.
    target = current if current.chat_id or not former.isdigit() else Peer(former)
    chat = str(query_value(connection, "SELECT chat_of(%s, %s)", (company, target.chat_id or target.user_id)))
    moved = query_value(connection, _MOVE, (company, former, chat, former.isdigit() and has_number, renaming.at))
    if not moved and former != chat:
        return []  # it was reported before
    _name_chat(connection, company, chat, previous.user_id)
    new_user = bool(current.user_id) and query_one(
        connection, _USER, {"bot": place.bot_id, "user": current.user_id, "chat": chat}
    )
    if not moved and not new_user:
        return []
    _name_chat(connection, company, chat, current.user_id)
    row = {
        "n": place.n, "company_id": company, "phone_index": place.phone_index, "chat_id": chat, "previous": former,
        "user_id": current.user_id, "previous_user": previous.user_id, "at": renaming.at,
        "name": query_value(connection, _NAME, (company, company, chat)),
    }  # fmt: skip
    return query(connection, _EVENT, (orjson.dumps(row).decode(),))


def _chat_of(connection: Connection, place: Place, peer: Peer, at: float) -> str:
    values = {"company": place.company_id, "bot": place.bot_id, "number": peer.chat_id, "user": peer.user_id, "at": at}
    return str(query_value(connection, _CHAT, values))


def _name_chat(connection: Connection, company: str, chat: str, user_id: str | None) -> None:
    """Let a user id stand for the chat, permanently."""
    if user_id:
        values = {"company": company, "alias": user_id, "chat": chat}
        query(connection, _REPOINTED, values)
        query(connection, _ALIAS, values)
