"""What providers report of messages that they took: sent, delivered, read, failed.

Reports come late, repeated and in any order; a status moves forward only, and the customer is told of each step once.
"""

import orjson

from services.history import HISTORY, SENT_EVENT, ack_event
from services.message import Status, StatusUpdate
from services.store import Connection, Statement, run

#: Meta's error for a link that it could not fetch.
LINK_REFUSED = "131053"

#: An event for `raise_events`, with the place of its cause among the updates of a batch.
Told = tuple[int, str]

# Reports of a provider's id that was given up, its link having been refused, say nothing of the message any more.
_APPLY = f"""
WITH r AS (
    SELECT * FROM json_to_recordset(%(updates)s::json) AS r (
        n int, bot_id int, message_id uuid, provider_id text, status message_status, at float, code text, error text,
        details jsonb)
), known AS (
    SELECT n, bot_id, COALESCE(r.message_id, (
        SELECT k.message_id FROM wa_key k WHERE k.bot_id = r.bot_id AND k.key_id = split_part(r.provider_id, '_', 3)
    ), (
        SELECT m.id FROM messages m WHERE m.external_id = r.provider_id AND m.provider = %(process)s LIMIT 1
    )) AS message_id, provider_id, status, at, code, error, details FROM r
), merged AS (
    SELECT message_id, min(n) AS n, max(bot_id) AS bot_id, max(provider_id) AS provider_id, max(status) AS status,
           max(code) AS code, max(error) AS error,
           jsonb_object_agg(status, jsonb_strip_nulls(jsonb_build_object(
               'status', status, 'at', to_timestamp(at), 'code', code, 'error', error)) || details) AS entries
    FROM known k WHERE message_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM outbox o WHERE o.message_id = k.message_id AND o.payload #>> '{{media,refused}}' = k.provider_id)
    GROUP BY message_id
), locked AS (
    SELECT o.bot_id, o.chat_id, o.id, o.message_id, o.status AS before, o.timeline AS told
    FROM merged m JOIN outbox o USING (message_id)
    WHERE m.bot_id IS NULL OR m.bot_id = o.bot_id
    ORDER BY o.bot_id, o.chat_id, o.id FOR UPDATE OF o
), moved AS (
    UPDATE outbox o SET
        status = GREATEST(o.status, m.status), provider_id = COALESCE(o.provider_id, m.provider_id), updated_at = now(),
        error_code = CASE WHEN m.status = 'failed' AND o.status < 'failed' THEN m.code ELSE o.error_code END,
        error = CASE WHEN m.status = 'failed' AND o.status < 'failed' THEN m.error ELSE o.error END,
        timeline = o.timeline || COALESCE((
            SELECT jsonb_agg(entry.value ORDER BY entry.key::message_status) FROM jsonb_each(m.entries) entry
            WHERE NOT o.timeline @> jsonb_build_array(jsonb_build_object('status', entry.key))), '[]'::jsonb)
    FROM merged m JOIN locked USING (message_id)
    WHERE o.bot_id = locked.bot_id AND o.chat_id = locked.chat_id AND o.id = locked.id
    RETURNING o.*, m.n, m.entries, locked.before
), written AS (
    SELECT * FROM moved
), {HISTORY}, reported AS (
    UPDATE messages h SET status = m.status::text FROM merged m
    WHERE h.id = m.message_id AND (m.bot_id IS NULL OR EXISTS (
        SELECT FROM phone_configs c
        WHERE c.id = m.bot_id AND c.company_id = h.company_id AND c.phone_index = h.phone_index))
    AND CASE
        WHEN h.status = ANY (enum_range(NULL::message_status)::text[]) THEN h.status::message_status < m.status
        ELSE true END
)
SELECT n, event::text FROM (
    SELECT w.n, w.id, 0 AS place, {SENT_EVENT} AS event FROM written w JOIN event_feed USING (company_id)
        JOIN history ON history.id = w.message_id
    UNION ALL
    SELECT w.n, w.id, 1 + array_position(enum_range(NULL::message_status), entry.key::message_status),
        {
    ack_event(
        "entry.key",
        "extract(epoch FROM (entry.value ->> 'at')::timestamptz)",
        "entry.value ->> 'code'",
        "entry.value ->> 'error'",
        "(entry.value - ARRAY['status', 'at', 'code', 'error'])",
    )
}
    FROM written w JOIN event_feed USING (company_id) CROSS JOIN LATERAL jsonb_each(w.entries) entry
    WHERE w.kind <> 'read' AND entry.key::message_status > w.before
) told ORDER BY n, id, place"""

# The chat's lane goes back to that message; what was accepted after it waits for it, unless it has left already.
_FETCH_INSTEAD = """
WITH r AS (
    SELECT * FROM json_to_recordset(%(updates)s::json) AS r (message_id uuid, provider_id text, error text)
), refused AS (
    SELECT DISTINCT ON (o.bot_id, o.chat_id, o.id) o.bot_id, o.chat_id, o.id, o.provider_id, r.error
    FROM r JOIN outbox o USING (message_id)
    WHERE o.status = 'sent' AND o.provider_id = r.provider_id
        AND o.payload #>> '{media,link}' IS NOT NULL AND NOT o.payload -> 'media' ? 'fetch'
), lanes AS (
    SELECT l.bot_id, l.chat_id FROM lane l JOIN (SELECT DISTINCT bot_id, chat_id FROM refused) c USING (bot_id, chat_id)
    ORDER BY l.bot_id, l.chat_id FOR UPDATE OF l
), again AS (
    UPDATE outbox o SET status = 'queued', provider_id = NULL, updated_at = now(),
        payload = jsonb_set(o.payload, '{media}', o.payload -> 'media' || jsonb_build_object(
            'fetch', true, 'refused', f.provider_id)),
        timeline = o.timeline || jsonb_build_array(jsonb_build_object('status', 'queued', 'at', now(), 'code', %(code)s,
            'error', f.error || ': the file is fetched by us and sent again'))
    FROM refused f JOIN lanes USING (bot_id, chat_id)
    WHERE o.bot_id = f.bot_id AND o.chat_id = f.chat_id AND o.id = f.id AND o.status = 'sent'
    RETURNING o.bot_id, o.chat_id, o.id, o.message_id
), reopened AS (
    UPDATE lane l SET pending = l.pending + a.n, done = LEAST(l.done, a.first - 1),
        due = CASE WHEN l.claim IS NULL THEN now() ELSE l.due END
    FROM (SELECT bot_id, chat_id, count(*) AS n, min(id) AS first FROM again GROUP BY bot_id, chat_id) a
    WHERE l.bot_id = a.bot_id AND l.chat_id = a.chat_id
), renamed AS (
    UPDATE messages m SET external_id = NULL FROM again a WHERE m.id = a.message_id
)
SELECT message_id::text FROM again"""


_APPLY_REPORTS = Statement("apply_reports", _APPLY, updates="json", process="text", media_base="text")


def apply(connection: Connection, process: str, media_base: str, updates: "list[Placed]") -> list[Told]:
    """Move messages forward as the provider reports; repeated, late and unknown reports change nothing.

    Each update comes with its place in the batch and the one bot that it may be about (None: any). Returns the events.
    """
    updates = _without_refused_links(connection, updates)
    rows = [
        {
            "n": n,
            "bot_id": bot_id,
            "message_id": update.message_id,
            "provider_id": update.provider_id,
            "status": update.status,
            "at": update.at,
            "code": update.error_code,
            "error": update.error,
            "details": update.details,
        }
        for n, update, bot_id in updates
    ]
    values = {"updates": orjson.dumps(rows).decode(), "process": process, "media_base": media_base}
    return run(connection, (_APPLY_REPORTS, values))


Placed = tuple[int, StatusUpdate, int | None]


def _without_refused_links(connection: Connection, updates: list[Placed]) -> list[Placed]:
    """Have messages sent again whose link the provider could not fetch; returns the other updates."""
    refused = {
        update.message_id: update
        for _, update, _ in updates
        if update.status is Status.FAILED and update.error_code == LINK_REFUSED and update.message_id
    }
    if not refused:
        return updates
    rows = [{"message_id": key, "provider_id": u.provider_id, "error": u.error} for key, u in refused.items()]
    with connection.cursor() as cursor:
        cursor.execute(_FETCH_INSTEAD, {"updates": orjson.dumps(rows).decode(), "code": LINK_REFUSED})
        again = {row[0] for row in cursor.fetchall()}
    return [each for each in updates if each[1].message_id not in again]
