"""The SQL that records the outcomes of claimed messages: their lanes, rows, history, contacts and events.

Outcomes and reports write the history by the same pieces, which read the CTE `written`.
"""

from bisnesctl.database.event_sql import NOW, ack_event
from services.database.connection import Statement
from services.events.payload_sql import CONTENT, MEDIA_URL, SENT_EVENT

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


# --- Outcomes ------------------------------------------------------------------------------------------------------

#: The kinds of messages that add to the history, and change nothing in it, when they are sent.
PLAIN_KINDS = frozenset({"text", "template"})

_TYPES = {"results": "json", "process": "text", "media_base": "text"}

# A `done` below 0 says that an older message was queued once more while this one was in hand, see reopened_at().
# A result whose lane is no longer ours (the lease expired during an outage of the database) still settles an unknown
# message, if it may have left under that claim; another worker may have made it unknown otherwise.
# `settled` is kept apart, since a row that a report has just changed is joined once more ("EvalPlanQual"), in which
# PostgreSQL refuses to run `freed`.
_UPDATED = f"""
WITH r AS (
    SELECT * FROM json_to_recordset(%(results)s::json) AS r (
        bot_id int, chat_id text, id bigint, claim text, final bool, status message_status, after float,
        provider_id text, code text, error text, fence bigint, marked bool)
    ORDER BY bot_id, chat_id
), freed AS (
    UPDATE lane l SET claim = NULL, head = NULL, pending = l.pending - r.final::int,
                      done = CASE WHEN l.done < 0 THEN -l.done - 1 WHEN r.final THEN r.id ELSE l.done END,
                      due = now() + r.after * interval '1 second'
    FROM r WHERE l.bot_id = r.bot_id AND l.chat_id = r.chat_id AND l.claim = r.claim AND l.head = r.id
        AND l.fence = COALESCE(r.fence, l.fence)
    RETURNING r.*, l.pending
), settled AS MATERIALIZED (
    SELECT * FROM freed WHERE status IS NOT NULL
    UNION ALL
    SELECT r.*, 0 FROM r CROSS JOIN LATERAL (  -- a look-up each, which no plan turns into a scan
        SELECT status FROM outbox WHERE bot_id = r.bot_id AND chat_id = r.chat_id AND id = r.id OFFSET 0) o
    WHERE r.id NOT IN (SELECT id FROM freed) AND r.status IS NOT NULL AND r.marked AND o.status = 'unknown'
), updated AS (
    UPDATE outbox o SET
        status = CASE WHEN o.status <= 'sending' THEN r.status ELSE GREATEST(o.status, r.status) END,
        attempts = o.attempts + (r.status <> 'waiting')::int,
        provider_id = COALESCE(r.provider_id, o.provider_id),
        error_code = r.code, error = r.error, updated_at = now(),
        timeline = o.timeline || CASE
            WHEN r.final AND o.timeline @> jsonb_build_array(jsonb_build_object('status', r.status)) THEN '[]'::jsonb
            ELSE jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
                'status', r.status, 'at', now(), 'attempt', o.attempts + 1, 'code', r.code, 'error', r.error))) END
    FROM settled r WHERE o.bot_id = r.bot_id AND o.chat_id = r.chat_id AND o.id = r.id
    RETURNING o.*, r.status AS step
), {written("updated", "true", ", u.step, u.timeline, u.attempts")}"""

_IS_MORE_DUE = "EXISTS (SELECT FROM freed WHERE pending > 0 AND after <= 0)"

# The contacts are counted so that they are written, and locked, before the feed is.
#: Records outcomes of any kind. Its one row: whether more messages of these chats are due.
RECORD = Statement(
    "record",
    f"""{_UPDATED}, {HISTORY}, {CONTACTS}
SELECT raise_events(jsonb_agg(event ORDER BY id, place)), {_IS_MORE_DUE}
FROM (
    SELECT w.id, 1 AS place, {SENT_EVENT} AS event FROM written w JOIN event_feed USING (company_id)
        JOIN history ON history.id = w.message_id
    UNION ALL
    SELECT w.id, 2, {ack_event("w.status", NOW, "w.error_code", "w.error")} FROM written w
        JOIN event_feed USING (company_id) LEFT JOIN history ON history.id = w.message_id
    WHERE w.kind <> 'read'
        AND (w.status IN ('failed', 'unknown')
             OR w.status = 'sent' AND (history.id IS NOT NULL OR w.kind IN {CHANGING_KINDS}))
    UNION ALL  -- a later step was reported before the answer was recorded
    SELECT w.id, 2, {ack_event("'sent'", NOW, "NULL", "NULL")} FROM written w JOIN event_feed USING (company_id)
    WHERE w.kind <> 'read' AND w.step = 'sent' AND w.status IN ('delivered', 'read')
        AND w.timeline -> -1 @> jsonb_build_object('status', 'sent', 'attempt', w.attempts)
) events WHERE (SELECT count(*) FROM contact) + (SELECT count(*) FROM seen) >= 0""",
    **_TYPES,
)

# A step that was reported before the answer was recorded gets its event now.
#: Records that messages of `PLAIN_KINDS` were sent. It has a plan for that alone, since to start one costs as much as
#: to run it. Its one row is that of `RECORD`.
RECORD_SENT = Statement(
    "record_sent",
    f"""{_UPDATED}, {NEW_HISTORY}, {NEW_CONTACTS}
SELECT raise_events(jsonb_agg(event ORDER BY id, place)), {_IS_MORE_DUE}
FROM (
    SELECT w.id, place, event
    FROM written w JOIN event_feed USING (company_id) LEFT JOIN history ON history.id = w.message_id
    CROSS JOIN LATERAL (
        SELECT 1 AS place, {SENT_EVENT} AS event WHERE history.id IS NOT NULL
        UNION ALL
        SELECT 2, {ack_event("'sent'", NOW, "NULL", "NULL")}
        WHERE w.status = 'sent' AND history.id IS NOT NULL OR w.status IN ('delivered', 'read')
            AND w.timeline -> -1 @> jsonb_build_object('status', 'sent', 'attempt', w.attempts)) e
) events WHERE (SELECT count(*) FROM contact) >= 0""",
    **_TYPES,
)

# Locks: only rows that nobody else writes.
RECORD_UNKNOWN = Statement(
    "record_unknown",
    """
INSERT INTO unknown_message (message_id)
SELECT o.message_id FROM json_to_recordset(%(results)s::json) AS r (bot_id int, chat_id text, id bigint)
    JOIN outbox o USING (bot_id, chat_id, id) WHERE o.status = 'unknown'
ON CONFLICT DO NOTHING""",
    results="json",
)

#: Keeps the ids by which the provider knows chats, if it named others.
LEARN = Statement(
    "learn_names",
    learn("""SELECT c.company_id, r.bot_id, chat_of(c.company_id, r.chat_id) AS sent_to,
        chat_of(c.company_id, r.recipient) AS other
    FROM json_to_recordset(%(results)s::json) AS r (bot_id int, chat_id text, recipient text)
    JOIN phone_configs c ON c.id = r.bot_id"""),
    results="json",
)
