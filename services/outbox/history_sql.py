"""What other services read of a message that was sent: pieces of SQL that follow an update of the outbox.

They read the CTE `written`: rows of `outbox` as they are now. The events are raised for companies that asked for any.
"""

from services.events.payload_sql import CONTENT, MEDIA_URL, NOW, SENT_EVENT, ack_event

#: The outbox's chat id as the old tables have it.
OLD_CHAT_ID = "CASE WHEN chat_id ~ '^[0-9]+$' THEN chat_id || '@c.us' ELSE chat_id END"
CONTACT_ID = "company_id || '-' || split_part(chat_id, '@', 1)"

_SENT = "status IN ('sent', 'delivered', 'read')"
#: Kinds that say something about another message, which the history has.
ABOUT = "('reaction', 'read', 'edit', 'delete')"

HISTORY = f"""history AS (
    INSERT INTO messages (id, message_id, company_id, contact_id, chat_id, content, message_type, media_url,
        media_metadata, quoted_message, from_me, direction, author, status, phone_index, timestamp, provider,
        external_id)
    SELECT message_id, message_id::text, company_id, {CONTACT_ID}, {OLD_CHAT_ID}, {CONTENT}, kind, {MEDIA_URL},
           payload -> 'media', CASE WHEN payload ? 'quoted_provider_id'
               THEN jsonb_build_object('id', payload ->> 'quoted_provider_id') END,
           true, 'outbound', payload ->> 'userName', status::text, phone_index, now(), %(process)s, provider_id
    FROM written WHERE {_SENT} AND kind NOT IN {ABOUT}
    ON CONFLICT DO NOTHING RETURNING id
), reacted AS (
    UPDATE messages m SET reaction = NULLIF(w.payload ->> 'reaction', ''), reaction_timestamp = now()
    FROM written w WHERE w.kind = 'reaction' AND w.{_SENT}
        AND m.company_id = w.company_id AND m.external_id = w.payload ->> 'target_provider_id'
), corrected AS (
    UPDATE messages m SET content = w.payload ->> 'message', edited = true, edited_at = now()
    FROM written w WHERE w.kind = 'edit' AND w.{_SENT}
        AND m.company_id = w.company_id AND m.external_id = w.payload ->> 'target_provider_id'
), revoked AS (
    UPDATE messages m SET status = 'revoked' FROM written w
    WHERE w.kind = 'delete' AND w.{_SENT} AND (w.payload -> 'deleteForEveryone')::bool
        AND m.company_id = w.company_id AND m.external_id = w.payload ->> 'target_provider_id'
), closed AS (  -- Meta says that the 24 hours are over, whatever we had counted
    UPDATE chat c SET window_until = LEAST(c.window_until, now()) FROM written w
    WHERE w.status = 'failed' AND w.error_code = '131047' AND c.bot_id = w.bot_id AND c.chat_id = w.chat_id
)"""

CONTACTS = f"""renamed AS (  -- what is sent once more, its link having been refused, has another id of the provider now
    UPDATE messages m SET external_id = w.provider_id FROM written w WHERE m.id = w.message_id AND m.external_id IS NULL
), contact AS (
    INSERT INTO contacts AS c (contact_id, company_id, phone, chat_id, phone_index, last_message)
    SELECT DISTINCT ON (company_id, contact_id) contact_id, company_id, phone, old_chat_id, phone_index, last_message
    FROM (
        SELECT {CONTACT_ID} AS contact_id, company_id, CASE WHEN chat_id ~ '^[0-9]+$' THEN '+' || chat_id END AS phone,
               {OLD_CHAT_ID} AS old_chat_id, phone_index, id, jsonb_build_object('body', {CONTENT}, 'type', kind,
                   'from_me', true, 'timestamp', floor(extract(epoch FROM now()))) AS last_message
        FROM written WHERE {_SENT} AND kind NOT IN {ABOUT}) sent
    ORDER BY company_id, contact_id, id DESC
    ON CONFLICT (contact_id, company_id) DO UPDATE SET last_message = excluded.last_message, updated_at = now()
    RETURNING 1 AS row
), seen AS (
    UPDATE contacts c SET unread_count = 0 FROM written w
    WHERE w.kind = 'read' AND w.{_SENT} AND c.company_id = w.company_id
        AND c.contact_id = w.company_id || '-' || split_part(w.chat_id, '@', 1)
    RETURNING 1 AS row
)"""


# The contacts are counted so that they are written, and locked, before the feed is.
#: The events of outcomes: what was sent now, and what became of it.
OUTCOME_EVENTS = f"""
SELECT raise_events(jsonb_agg(event ORDER BY id, place)) FROM (
    SELECT w.id, 1 AS place, {SENT_EVENT} AS event FROM written w JOIN event_feed USING (company_id)
        JOIN history ON history.id = w.message_id
    UNION ALL
    SELECT w.id, 2, {ack_event("w.status", NOW, "w.error_code", "w.error")} FROM written w
        JOIN event_feed USING (company_id) LEFT JOIN history ON history.id = w.message_id
    WHERE w.kind <> 'read'
        AND (w.status IN ('failed', 'unknown') OR w.status = 'sent' AND (history.id IS NOT NULL OR w.kind IN {ABOUT}))
) told WHERE (SELECT count(*) FROM contact) + (SELECT count(*) FROM seen) >= 0"""
