"""The SQL that records the outcomes of claimed messages: their lanes, rows, history, contacts and events."""

from bisnesctl.database.event_sql import NOW, ack_event
from services.database.connection import Statement
from services.events.payload_sql import SENT_EVENT
from services.outbox.history_sql import (
    CHANGING_KINDS,
    CONTACTS,
    HISTORY,
    NEW_CONTACTS,
    NEW_HISTORY,
    learn,
    written,
)

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
