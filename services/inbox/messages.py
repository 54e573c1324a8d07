"""The SQL of arrivals: messages, calls, reactions, edits, revocations; with contacts, chats and files to fetch.

Everything may arrive twice and in any order; duplicates change nothing and raise no event.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from services.database.connection import Connection, Statement, run
from services.events.payload_sql import (
    CALL_EVENT,
    EDIT_EVENT,
    REACTION_EVENT,
    RECEIVED_ANY_EVENT,
    RECEIVED_EVENT,
    REVOCATION_EVENT,
)
from services.message import Call, Edit, Incoming, Reaction, Revocation
from services.outbox.store import NumberedEvent


@dataclass(frozen=True, slots=True)
class Place:
    """Where an arrival belongs."""

    n: int  # its place in the batch
    bot_id: int
    company_id: str
    phone_index: int
    process: str
    own_number: str | None  # our number as customers know it


#: Seconds after a customer's message in which any message may be sent to them (Cloud API, "Customer service windows").
SERVICE_WINDOW_SECONDS = 24 * 3600

# A user with a hidden number belongs to the chat of the number that we know of them, or else has a chat of their own.
_CHAT_ID = """COALESCE(g.chat_id, (
        SELECT c.chat_id FROM chat c WHERE c.bot_id = g.bot_id AND c.user_id = g.user_id ORDER BY c.chat_id LIMIT 1
    ), g.user_id)"""
_INPUT_ROWS = """
input_rows AS (
    SELECT g.*, {chat_id} AS chat FROM json_to_recordset(%(rows)s::json) AS g (
        n int, bot_id int, company_id text, phone_index int, process text, own_number text,
        chat_id text, user_id text, name text, at float, from_me bool, {columns})
)"""
_COLUMNS = "provider_id text, kind text, text text, quoted text, media jsonb, content jsonb, status text"

# WhatsApp Web reports our own messages as well; the outbox reports those that it sends. Messages older than its keys
# are in the history.
_SENT_BY_US = """(
        EXISTS (SELECT FROM wa_key k WHERE k.bot_id = g.bot_id AND k.key_id = split_part(g.provider_id, '_', 3))
        OR EXISTS (SELECT FROM messages m WHERE m.company_id = g.company_id AND m.external_id = g.provider_id))"""

_MESSAGES = f"""
WITH {_INPUT_ROWS.format(chat_id=_CHAT_ID, columns=_COLUMNS)}, fresh AS (
    SELECT DISTINCT ON (company_id, provider_id) g.*, uuid_generate_v4() AS id FROM input_rows g
    WHERE NOT (g.from_me AND {_SENT_BY_US}) ORDER BY company_id, provider_id, n
), placed AS (
    SELECT f.*, f.company_id || '-' || split_part(f.chat, '@', 1) AS contact_id,
        CASE WHEN f.media IS NOT NULL
            THEN %(media_base)s || '/api/v2/media/' || f.company_id || '/' || f.id END AS media_url
    FROM fresh f
), stored AS (
    INSERT INTO messages (id, message_id, company_id, contact_id, chat_id, content, message_type, media_url,
        media_metadata, quoted_message, from_me, direction, author, status, phone_index, timestamp, provider,
        external_id)
    SELECT id, provider_id, company_id, contact_id, CASE WHEN chat ~ '^[0-9]+$' THEN chat || '@c.us' ELSE chat END,
           text, kind, media_url,
           CASE WHEN media IS NOT NULL OR content IS NOT NULL
               THEN COALESCE(media, '{{}}') || CASE WHEN content IS NULL THEN '{{}}'
               ELSE jsonb_build_object('content', content) END END,
           CASE WHEN quoted IS NOT NULL THEN jsonb_build_object('id', quoted) END,
           from_me, CASE WHEN from_me THEN 'outbound' ELSE 'inbound' END, name,
           CASE WHEN from_me THEN status ELSE 'received' END, phone_index, to_timestamp(at), process, provider_id
    FROM placed ORDER BY company_id, provider_id
    ON CONFLICT (message_id, company_id) DO NOTHING RETURNING id
), written AS (
    SELECT p.* FROM placed p JOIN stored USING (id)
), downloads AS (
    INSERT INTO media_download (message_id, bot_id, company_id, media)
    SELECT id, bot_id, company_id, media FROM written WHERE media IS NOT NULL RETURNING 1 AS row
), contact AS (
    INSERT INTO contacts AS c (contact_id, company_id, name, phone, chat_id, phone_index, last_message, unread_count)
    SELECT DISTINCT ON (company_id, contact_id) company_id || '-' || split_part(chat, '@', 1), company_id,
           left(CASE WHEN chat LIKE '%%@g.us' THEN content ->> 'chatName' ELSE name END, 255),
           CASE WHEN chat ~ '^[0-9]+$' THEN '+' || chat END,
           CASE WHEN chat ~ '^[0-9]+$' THEN chat || '@c.us' ELSE chat END, phone_index,
           jsonb_build_object('body', text, 'type', kind, 'from_me', from_me, 'timestamp', floor(at)),
           count(*) FILTER (WHERE NOT from_me) OVER (PARTITION BY company_id, contact_id)
    FROM written ORDER BY company_id, contact_id, at DESC, n DESC
    ON CONFLICT (contact_id, company_id) DO UPDATE SET
        name = COALESCE(NULLIF(c.name, ''), excluded.name),
        unread_count = COALESCE(c.unread_count, 0) + excluded.unread_count,
        last_message = CASE WHEN COALESCE((c.last_message ->> 'timestamp')::float, 0)
            <= (excluded.last_message ->> 'timestamp')::float THEN excluded.last_message ELSE c.last_message END,
        updated_at = now()
    RETURNING 1 AS row
), window_open AS (
    INSERT INTO chat AS c (bot_id, chat_id, user_id, last_inbound_at, window_until)
    SELECT bot_id, chat, max(user_id), to_timestamp(max(LEAST(at, extract(epoch FROM now())))),
           to_timestamp(max(LEAST(at, extract(epoch FROM now())))) + {SERVICE_WINDOW_SECONDS} * interval '1 second'
    FROM written WHERE NOT from_me GROUP BY bot_id, chat ORDER BY bot_id, chat
    ON CONFLICT (bot_id, chat_id) DO UPDATE SET user_id = COALESCE(excluded.user_id, c.user_id),
        last_inbound_at = GREATEST(c.last_inbound_at, excluded.last_inbound_at),
        window_until = GREATEST(c.window_until, excluded.window_until)
    RETURNING 1 AS row
), w AS (
    SELECT id, n, bot_id, company_id, phone_index, chat AS chat_id, own_number, user_id, name, at, from_me, provider_id,
           kind, text, quoted, media, content, media_url FROM written
)
SELECT n, event::text FROM (
    SELECT w.n, 1 AS place, {RECEIVED_EVENT} AS event FROM w JOIN event_feed USING (company_id)
    WHERE NOT w.from_me
    UNION ALL
    SELECT w.n, 2, {RECEIVED_ANY_EVENT} FROM w JOIN event_feed USING (company_id)
) events ORDER BY n, place"""

#: Finds the message that something is said about; every index of it is by company.
_TARGET = "m.company_id = g.company_id AND m.external_id = g.target"

# Changes of unknown messages, such as those that the phone sent, raise events as well.
_EVENTS = """
SELECT w.n, {event}::text FROM (
    SELECT g.n, g.company_id, g.phone_index, g.chat AS chat_id, g.name, g.at, g.from_me, g.target, g.provider_id,
           g.body, k.id FROM heard g LEFT JOIN known k USING (n)
    WHERE k.id IS NULL OR g.n IN (SELECT n FROM latest JOIN changed USING (id))) w
JOIN event_feed USING (company_id) ORDER BY n"""

#: How many recent outgoing messages of a chat to search when WhatsApp echoes our own reaction, edit or deletion.
MAX_ECHO_SEARCH = 500


def _about(kind: str) -> str:
    """The beginning of a statement that changes messages; `kind`: the outbox's name of the change."""
    columns = "target text, provider_id text, body text"
    return f"""
WITH {_INPUT_ROWS.format(chat_id=_CHAT_ID, columns=columns)}, heard AS (  -- all but what the outbox itself has sent
    SELECT * FROM input_rows g WHERE NOT (g.from_me AND EXISTS (
        SELECT FROM (
            SELECT kind, payload FROM outbox WHERE bot_id = g.bot_id AND chat_id = g.chat
            ORDER BY id DESC LIMIT {MAX_ECHO_SEARCH}
        ) o WHERE o.kind = '{kind}' AND o.payload ->> 'target_provider_id' = g.target
            AND COALESCE(o.payload ->> 'reaction', o.payload ->> 'message', '') = COALESCE(g.body, '')))
), known AS (
    SELECT g.n, m.id FROM heard g CROSS JOIN LATERAL (SELECT m.id FROM messages m WHERE {_TARGET} LIMIT 1) m
), latest AS (
    SELECT DISTINCT ON (k.id) k.id, g.* FROM heard g JOIN known k USING (n) ORDER BY k.id, g.at DESC, g.n DESC
), """


_REACTIONS = _about("reaction") + """changed AS (
    UPDATE messages m SET reaction = NULLIF(left(l.body, 50), ''), reaction_timestamp = to_timestamp(l.at)
    FROM latest l WHERE m.id = l.id AND (m.reaction_timestamp IS NULL OR m.reaction_timestamp <= to_timestamp(l.at))
        AND (m.reaction, m.reaction_timestamp) IS DISTINCT FROM (NULLIF(left(l.body, 50), ''), to_timestamp(l.at))
    RETURNING m.id
)""" + _EVENTS.format(event=REACTION_EVENT)  # fmt: skip

_EDITS = _about("edit") + """changed AS (
    UPDATE messages m SET content = l.body, edited = true, edited_at = to_timestamp(l.at)
    FROM latest l WHERE m.id = l.id AND (m.edited_at IS NULL OR m.edited_at < to_timestamp(l.at))
        AND m.content IS DISTINCT FROM l.body
    RETURNING m.id
)""" + _EVENTS.format(event=EDIT_EVENT)  # fmt: skip

_REVOCATIONS = _about("delete") + """changed AS (
    UPDATE messages m SET status = 'revoked' FROM latest l WHERE m.id = l.id AND m.status IS DISTINCT FROM 'revoked'
    RETURNING m.id
)""" + _EVENTS.format(event=REVOCATION_EVENT)  # fmt: skip

_CALLS = f"""
WITH {_INPUT_ROWS.format(chat_id=_CHAT_ID, columns="provider_id text, video bool, of_group bool")}, stored AS (
    INSERT INTO messages (message_id, company_id, contact_id, chat_id, message_type, media_metadata, from_me, direction,
        author, status, phone_index, timestamp, provider, external_id)
    SELECT provider_id, company_id, company_id || '-' || split_part(chat, '@', 1),
           CASE WHEN chat ~ '^[0-9]+$' THEN chat || '@c.us' ELSE chat END, 'call',
           jsonb_build_object('content', jsonb_build_object('video', video, 'group', of_group)), false, 'inbound', name,
           'received', phone_index, to_timestamp(at), process, provider_id
    FROM input_rows ORDER BY company_id, provider_id
    ON CONFLICT (message_id, company_id) DO NOTHING RETURNING company_id, message_id
), w AS (
    SELECT DISTINCT ON (g.company_id, g.provider_id) g.n, g.company_id, g.phone_index, g.chat AS chat_id, g.name, g.at,
           g.provider_id, g.video, g.of_group
    FROM input_rows g JOIN stored s ON s.company_id = g.company_id AND s.message_id = g.provider_id
    ORDER BY g.company_id, g.provider_id, g.n
)
SELECT w.n, {CALL_EVENT}::text FROM w JOIN event_feed USING (company_id) ORDER BY n"""

Arrival = Incoming | Reaction | Edit | Revocation | Call

_STATEMENTS = {
    Incoming: Statement("arrived_messages", _MESSAGES, rows="json", media_base="text"),
    Reaction: Statement("arrived_reactions", _REACTIONS, rows="json"),
    Edit: Statement("arrived_edits", _EDITS, rows="json"),
    Revocation: Statement("arrived_revocations", _REVOCATIONS, rows="json"),
    Call: Statement("arrived_calls", _CALLS, rows="json"),
}


def record(connection: Connection, media_base: str, arrivals: Sequence[tuple[Place, Arrival]]) -> list[NumberedEvent]:
    """Store arrivals of one type and return the events of the new ones."""
    kind = type(arrivals[0][1])
    rows = [asdict(place) | _row(arrival) for place, arrival in arrivals]
    return run(connection, (_STATEMENTS[kind], {"rows": orjson.dumps(rows).decode(), "media_base": media_base}))


def _row(arrival: Arrival) -> dict[str, Any]:
    sender = arrival.sender
    row = {"chat_id": sender.chat_id, "user_id": sender.user_id, "name": sender.name, "at": arrival.at}
    match arrival:
        case Incoming():
            media = arrival.media and {
                "id": arrival.media.id,
                "mimeType": arrival.media.mime_type,
                "sha256": arrival.media.sha256,
                "filename": arrival.media.filename,
                "voice": arrival.media.voice,
                "animated": arrival.media.animated,
                "url": arrival.media.url,
            }
            return row | {
                "provider_id": arrival.provider_id,
                "kind": arrival.kind,
                "text": arrival.text,
                "quoted": arrival.quoted,
                "media": media,
                # The provider's form of the message, if it says more than the columns.
                "content": arrival.content if arrival.kind != "text" or arrival.content.keys() - _PLAIN_TEXT else None,
                "from_me": arrival.from_me,
                "status": arrival.status,
            }
        case Reaction():
            return row | {
                "target": arrival.target,
                "provider_id": arrival.provider_id,
                "body": arrival.emoji,
                "from_me": arrival.from_me,
            }
        case Edit():
            return row | {"target": arrival.target, "body": arrival.text, "from_me": arrival.from_me}
        case Revocation():
            return row | {"target": arrival.target, "from_me": arrival.from_me}
        case Call():
            return row | {
                "provider_id": arrival.provider_id,
                "video": arrival.video,
                "of_group": arrival.group,
                "from_me": False,
            }


#: The fields of a plain text; the history has them in columns.
_PLAIN_TEXT = {"from", "from_user_id", "to", "id", "timestamp", "type", "text"}
