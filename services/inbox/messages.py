"""The SQL of received messages and calls; with contacts, chats and files to fetch.

Everything may arrive twice and in any order; duplicates change nothing and raise no event.
"""

from collections.abc import Sequence

import orjson

from services.database.connection import Connection, Statement, run
from services.events.payload_sql import CALL_EVENT, RECEIVED_ANY_EVENT, RECEIVED_EVENT
from services.inbox.arrivals import Place, Row, common, input_rows
from services.message import Call, Incoming
from services.outbox.reports import NumberedEvent

#: Seconds after a customer's message in which any message may be sent to them (Cloud API, "Customer service windows").
SERVICE_WINDOW_SECONDS = 24 * 3600

_COLUMNS = """provider_id text, kind text, text text, quoted text, media jsonb, content jsonb, status text,
        details jsonb, plain bool, backfill bool"""

# WhatsApp Web reports our own messages as well; the outbox reports those that it sends. Messages older than its keys
# are in the history.
_SENT_BY_US = """(
        EXISTS (SELECT FROM wa_key k WHERE k.bot_id = g.bot_id AND k.key_id = split_part(g.provider_id, '_', 3))
        OR EXISTS (SELECT FROM messages m WHERE m.company_id = g.company_id AND m.external_id = g.provider_id
                   AND m.message_type IS DISTINCT FROM 'media_placeholder'))"""

#: Whether a person has written it just now: it counts as unread and opens the window. System messages are WhatsApp's.
_BY_PERSON = "NOT from_me AND NOT backfill AND kind <> 'system'"

# In the history of a number that was just linked, a placeholder may come before the file.
_MESSAGES = f"""
WITH {input_rows(_COLUMNS)}, placed AS (
    SELECT DISTINCT ON (company_id, provider_id) g.*, uuid_generate_v4() AS new_id,
        company_id || '-' || split_part(chat, '@', 1) AS contact_id,
        CASE WHEN media IS NOT NULL OR content IS NOT NULL
            THEN COALESCE(media, '{{}}') || CASE WHEN content IS NULL THEN '{{}}'
            ELSE jsonb_build_object('content', content) END END AS metadata,
        CASE WHEN media IS NOT NULL THEN %(media_base)s || '/api/v2/media/' || company_id || '/' END AS media_folder
    FROM input_rows g
    WHERE NOT (g.from_me AND {_SENT_BY_US}) ORDER BY company_id, provider_id, kind = 'media_placeholder', n
), stored AS (
    INSERT INTO messages AS m (id, message_id, company_id, contact_id, chat_id, content, message_type, media_url,
        media_metadata, quoted_message, from_me, direction, author, status, phone_index, timestamp, provider,
        external_id)
    SELECT new_id, provider_id, company_id, contact_id, history_chat_id(chat), text, kind, media_folder || new_id,
           metadata, CASE WHEN quoted IS NOT NULL THEN jsonb_build_object('id', quoted) END,
           from_me, CASE WHEN from_me THEN 'outbound' ELSE 'inbound' END, name,
           CASE WHEN from_me THEN status ELSE 'received' END, phone_index, to_timestamp(at), process, provider_id
    FROM placed ORDER BY company_id, provider_id
    ON CONFLICT (message_id, company_id) DO UPDATE SET content = COALESCE(excluded.content, m.content),
        message_type = excluded.message_type, media_metadata = excluded.media_metadata,
        media_url = left(excluded.media_url, -36) || m.id
        WHERE m.message_type = 'media_placeholder' AND excluded.message_type <> 'media_placeholder'
    RETURNING m.id, m.company_id, m.message_id
), written AS (
    SELECT s.id, p.media_folder || s.id AS media_url, p.* FROM placed p
    JOIN stored s ON s.company_id = p.company_id AND s.message_id = p.provider_id
), downloads AS (
    INSERT INTO media_download (message_id, bot_id, company_id, media)
    SELECT id, bot_id, company_id, media FROM written WHERE media IS NOT NULL ON CONFLICT DO NOTHING RETURNING 1 AS row
), contact AS (
    INSERT INTO contacts AS c (contact_id, company_id, name, named_at, phone, chat_id, phone_index, last_message,
        unread_count)
    SELECT contact_id, company_id,
           left((array_agg(shown_name ORDER BY at DESC, n DESC) FILTER (WHERE shown_name IS NOT NULL))[1], 255),
           to_timestamp(max(at) FILTER (WHERE shown_name IS NOT NULL)),
           CASE WHEN min(chat) ~ '^[0-9]+$' THEN '+' || min(chat) END, history_chat_id(min(chat)),
           (array_agg(phone_index ORDER BY at DESC, n DESC))[1],
           (array_agg(jsonb_build_object('id', id, 'body', text, 'type', kind, 'from_me', from_me,
               'timestamp', floor(at)) ORDER BY at DESC, n DESC))[1],
           count(*) FILTER (WHERE {_BY_PERSON})
    FROM (SELECT *, CASE WHEN chat LIKE '%%@g.us' THEN content ->> 'chatName' ELSE name END AS shown_name
          FROM written) w
    GROUP BY company_id, contact_id ORDER BY company_id, contact_id
    ON CONFLICT (contact_id, company_id) DO UPDATE SET
        name = CASE WHEN COALESCE(c.name, '') = '' OR c.named_at IS NULL OR c.named_at <= excluded.named_at
            THEN COALESCE(excluded.name, c.name) ELSE c.name END,
        named_at = GREATEST(c.named_at, excluded.named_at),
        unread_count = COALESCE(c.unread_count, 0) + excluded.unread_count,
        last_message = CASE WHEN COALESCE((c.last_message ->> 'timestamp')::float, 0)
            <= (excluded.last_message ->> 'timestamp')::float THEN excluded.last_message ELSE c.last_message END,
        updated_at = now()
    RETURNING 1 AS row
), window_open AS (
    INSERT INTO chat AS c (bot_id, chat_id, user_id, last_inbound_at, window_until)
    SELECT bot_id, chat, max(user_id), to_timestamp(max(LEAST(at, extract(epoch FROM now())))),
           to_timestamp(max(LEAST(at, extract(epoch FROM now())))) + {SERVICE_WINDOW_SECONDS} * interval '1 second'
    FROM written WHERE {_BY_PERSON} GROUP BY bot_id, chat ORDER BY bot_id, chat
    ON CONFLICT (bot_id, chat_id) DO UPDATE SET user_id = COALESCE(excluded.user_id, c.user_id),
        last_inbound_at = GREATEST(c.last_inbound_at, excluded.last_inbound_at),
        window_until = GREATEST(c.window_until, excluded.window_until)
    RETURNING 1 AS row
), w AS (
    SELECT id, n, bot_id, company_id, phone_index, chat AS chat_id, own_number, user_id, name, at, from_me, provider_id,
           kind, text, quoted, media, content, media_url, details, plain FROM written WHERE NOT backfill
)
SELECT n, event::text FROM (
    SELECT w.n, 1 AS place, {RECEIVED_EVENT} AS event FROM w JOIN event_feed USING (company_id)
    WHERE NOT w.from_me
    UNION ALL
    SELECT w.n, 2, {RECEIVED_ANY_EVENT} FROM w JOIN event_feed USING (company_id)
) events ORDER BY n, place"""

_CALLS = f"""
WITH {input_rows("provider_id text, video bool, of_group bool")}, stored AS (
    INSERT INTO messages (message_id, company_id, contact_id, chat_id, message_type, media_metadata, from_me, direction,
        author, status, phone_index, timestamp, provider, external_id)
    SELECT provider_id, company_id, company_id || '-' || split_part(chat, '@', 1), history_chat_id(chat), 'call',
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

_RECORD_MESSAGES = Statement("arrived_messages", _MESSAGES, rows="json", media_base="text")
_RECORD_CALLS = Statement("arrived_calls", _CALLS, rows="json")


def record(connection: Connection, media_base: str, arrivals: Sequence[tuple[Place, Incoming]]) -> list[NumberedEvent]:
    """Store messages and return the events of the new ones."""
    rows = [common(place, message) | _message(message) for place, message in arrivals]
    return run(connection, (_RECORD_MESSAGES, {"rows": orjson.dumps(rows).decode(), "media_base": media_base}))


def record_calls(connection: Connection, arrivals: Sequence[tuple[Place, Call]]) -> list[NumberedEvent]:
    """Store calls and return the events of the new ones."""
    rows = [
        common(place, call) | {"provider_id": call.provider_id, "video": call.video, "of_group": call.group}
        for place, call in arrivals
    ]
    return run(connection, (_RECORD_CALLS, {"rows": orjson.dumps(rows).decode()}))


def _message(message: Incoming) -> Row:
    media = message.media and {
        "id": message.media.id,
        "mimeType": message.media.mime_type,
        "sha256": message.media.sha256,
        "filename": message.media.filename,
        "voice": message.media.voice,
        "animated": message.media.animated,
        "url": message.media.url,
    }
    return {
        "provider_id": message.provider_id,
        "kind": message.kind,
        "text": message.text,
        "quoted": message.quoted,
        "media": media,
        # The provider's form of the message, if it says more than the columns.
        "content": message.content if message.kind != "text" or message.content.keys() - _PLAIN_TEXT else None,
        "status": message.status,
        "details": message.details,
        "plain": message.plain,
        "backfill": message.backfill,
    }


#: The fields of a plain text; the history has them in columns.
_PLAIN_TEXT = {"from", "from_user_id", "to", "id", "timestamp", "type", "text"}
