"""The SQL by which outcomes and reports write the history: pieces that read the CTE `written`."""

from services.events.payload_sql import CONTENT, MEDIA_URL

_CONTACT_ID = "company_id || '-' || split_part(chat_id, '@', 1)"
_SENT = "status IN ('sent', 'delivered', 'read')"
#: Kinds that change another message of the history.
CHANGING_KINDS = "('reaction', 'read', 'edit', 'delete')"
#: Whether a message `m` of the history is the last one of its contact `c`. Earlier versions stored no id with it.
IS_LAST_MESSAGE = """CASE WHEN c.last_message ? 'id' THEN c.last_message ->> 'id' = m.id::text
        ELSE (c.last_message ->> 'timestamp')::float = floor(extract(epoch FROM m.timestamp))
            AND c.last_message ->> 'body' IS NOT DISTINCT FROM m.content END"""


def written(source: str, first: str, more: str = "") -> str:
    """SQL of the CTE `written`: changed rows of the outbox as they are now, under the one id of their chat.

    `source`: the CTE with the rows; `first`: SQL whether a row `u` of it may have become sent only now; `more`: further
    columns of it.
    """
    return f"""written AS (
    SELECT u.bot_id, chat_of(u.company_id, u.chat_id) AS chat_id, u.id, u.message_id, u.company_id, u.phone_index,
           u.kind, u.payload, u.status, u.provider_id, u.error_code, u.error, u.request_id,
           {first} AS first{more}
    FROM {source} u
)"""


_TARGET = "m.company_id = w.company_id AND m.external_id = w.payload ->> 'target_provider_id'"

#: The messages that were sent, as rows of the history.
NEW_HISTORY = f"""history AS (
    INSERT INTO messages (id, message_id, company_id, contact_id, chat_id, content, message_type, media_url,
        media_metadata, quoted_message, from_me, direction, author, status, phone_index, timestamp, provider,
        external_id)
    SELECT message_id, message_id::text, company_id, {_CONTACT_ID}, history_chat_id(chat_id), {CONTENT}, kind,
           {MEDIA_URL}, payload -> 'media', CASE WHEN payload ? 'quoted_provider_id'
               THEN jsonb_build_object('id', payload ->> 'quoted_provider_id') END,
           true, 'outbound', payload ->> 'userName', status::text, phone_index, now(), %(process)s, provider_id
    FROM written WHERE {_SENT} AND kind NOT IN {CHANGING_KINDS}
    ON CONFLICT DO NOTHING RETURNING id
)"""

HISTORY = f"""{NEW_HISTORY}, reacted AS (
    UPDATE messages m SET reaction = NULLIF(w.payload ->> 'reaction', ''), reaction_timestamp = now()
    FROM written w WHERE w.kind = 'reaction' AND w.{_SENT} AND w.first AND {_TARGET}
), corrected AS (
    UPDATE messages m SET content = w.payload ->> 'message', edited = true, edited_at = now()
    FROM written w WHERE w.kind = 'edit' AND w.{_SENT} AND w.first AND {_TARGET}
), revoked AS (
    UPDATE messages m SET status = 'revoked' FROM written w
    WHERE w.kind = 'delete' AND w.{_SENT} AND (w.payload -> 'deleteForEveryone')::bool AND {_TARGET}
), closed AS (  -- Meta reports that the 24 hours are over, even if our count differs
    UPDATE chat c SET window_until = LEAST(c.window_until, now()) FROM written w
    WHERE w.status = 'failed' AND w.error_code = '131047' AND c.bot_id = w.bot_id AND c.chat_id = w.chat_id
)"""

#: The last message of each contact that a message was sent to.
NEW_CONTACTS = f"""contact AS (
    INSERT INTO contacts AS c (contact_id, company_id, phone, chat_id, phone_index, last_message)
    SELECT DISTINCT ON (company_id, contact_id) contact_id, company_id, phone, old_chat_id, phone_index, last_message
    FROM (
        SELECT {_CONTACT_ID} AS contact_id, company_id, CASE WHEN chat_id ~ '^[0-9]+$' THEN '+' || chat_id END AS phone,
               history_chat_id(chat_id) AS old_chat_id, phone_index, id, jsonb_build_object('id', message_id,
                   'body', {CONTENT}, 'type', kind,
                   'from_me', true, 'timestamp', floor(extract(epoch FROM now()))) AS last_message
        FROM written WHERE {_SENT} AND kind NOT IN {CHANGING_KINDS}) sent
    ORDER BY company_id, contact_id, id DESC
    ON CONFLICT (contact_id, company_id) DO UPDATE SET last_message = excluded.last_message, updated_at = now()
    RETURNING 1 AS row
)"""

# `seen` has all changes of contacts that are not about a new message, so that no row is changed twice.
CONTACTS = f"""renamed AS (  -- a message that was sent again because its link was refused has a new provider id
    UPDATE messages m SET external_id = w.provider_id FROM written w WHERE m.id = w.message_id AND m.external_id IS NULL
), {NEW_CONTACTS}, seen AS (
    UPDATE contacts c SET
        unread_count = CASE WHEN w.kind = 'read' THEN 0 ELSE c.unread_count END,
        last_message = CASE WHEN w.kind = 'read' OR m.id IS NULL OR NOT ({IS_LAST_MESSAGE})
                OR c.last_message ->> 'type' = 'revoked' THEN c.last_message
            WHEN w.kind = 'edit' THEN c.last_message || jsonb_build_object('body', w.payload -> 'message')
            ELSE c.last_message || jsonb_build_object('body', NULL, 'type', 'revoked') END
    FROM written w LEFT JOIN messages m ON w.kind <> 'read' AND {_TARGET}
    WHERE (w.kind IN ('read', 'edit') OR w.kind = 'delete' AND (w.payload -> 'deleteForEveryone')::bool)
        AND w.{_SENT} AND c.company_id = w.company_id
        AND c.contact_id = w.company_id || '-' || split_part(w.chat_id, '@', 1)
    RETURNING 1 AS row
)"""


def learn(names: str) -> str:
    """SQL that keeps the other ids by which the provider knows a chat: another form of its number, or a user id.

    `names`: SQL of rows with company_id, bot_id, sent_to and other. The chat is the one that we wrote to, unless the
    person has written under the other id alone.
    """
    return f"""
    INSERT INTO chat_alias (company_id, alias, chat_id)
    SELECT DISTINCT ON (s.company_id, a.alias) s.company_id, a.alias, CASE WHEN k.known THEN s.other ELSE s.sent_to END
    FROM ({names}) s CROSS JOIN LATERAL (
        SELECT EXISTS (SELECT FROM chat WHERE bot_id = s.bot_id AND chat_id = s.other)
            AND NOT EXISTS (SELECT FROM chat WHERE bot_id = s.bot_id AND chat_id = s.sent_to) AS known
    ) k CROSS JOIN LATERAL (SELECT CASE WHEN k.known THEN s.sent_to ELSE s.other END AS alias) a
    WHERE s.other <> s.sent_to AND s.sent_to NOT LIKE '%%@g.us' AND NOT EXISTS (
        SELECT FROM chat_alias c WHERE c.company_id = s.company_id AND c.chat_id = a.alias)
    ORDER BY s.company_id, a.alias ON CONFLICT DO NOTHING"""
