"""What providers report of messages that they took: sent, delivered, read, failed.

Reports come late, repeated and in any order; a status moves forward only, and the customer is told of each step once.
"""

from dataclasses import dataclass

import orjson

from services.database.connection import Connection, Statement, run
from services.events.payload_sql import SENT_EVENT, ack_event
from services.message import Status, StatusUpdate
from services.outbox.history_sql import HISTORY

#: Meta's error for a link that it could not fetch.
LINK_REFUSED = "131053"

#: An event for `raise_events`, with the place of its cause among the updates of a batch.
Told = tuple[int, str]

# A report reaches the messages of those alone for whom it speaks: one company's number by its own secret or browser, or
# whoever has the number that it names. Ids of messages prove nothing: senders choose what is echoed.
_WITHIN = "r.companies ? {0}.company_id AND (r.phone_index IS NULL OR {0}.phone_index = r.phone_index)"

# Reports of a provider's id that was given up, its link having been refused, say nothing of the message any more.
_APPLY = f"""
WITH r AS (
    SELECT * FROM json_to_recordset(%(updates)s::json) AS r (
        n int, bot_id int, companies jsonb, phone_index int, message_id uuid, provider_id text, status message_status,
        at float, code text, error text, details jsonb)
), named AS (
    SELECT r.n, COALESCE(r.message_id, (
        SELECT k.message_id FROM wa_key k WHERE k.bot_id = r.bot_id AND k.key_id = split_part(r.provider_id, '_', 3)
    ), (
        SELECT m.id FROM messages m WHERE m.external_id = r.provider_id AND m.provider = %(process)s
            AND {_WITHIN.format("m")} LIMIT 1
    )) AS message_id, r.companies, r.phone_index, r.provider_id, r.status, r.at, r.code, r.error, r.details FROM r
), known AS (
    SELECT r.* FROM named r LEFT JOIN outbox o ON o.message_id = r.message_id
    WHERE o.payload #>> '{{media,refused}}' IS DISTINCT FROM r.provider_id AND CASE
        WHEN o.message_id IS NOT NULL THEN {_WITHIN.format("o")}
        ELSE EXISTS (SELECT FROM messages m WHERE m.id = r.message_id AND {_WITHIN.format("m")}) END
), merged AS (
    SELECT message_id, min(n) AS n, max(provider_id) AS provider_id, max(status) AS status, max(code) AS code,
           max(error) AS error,
           jsonb_object_agg(status, jsonb_strip_nulls(jsonb_build_object(
               'status', status, 'at', to_timestamp(at), 'code', code, 'error', error)) || details) AS entries
    FROM known GROUP BY message_id
), locked AS (
    SELECT o.bot_id, o.chat_id, o.id, o.message_id, o.status AS before, o.timeline AS told
    FROM merged m JOIN outbox o USING (message_id)
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
    WHERE h.id = m.message_id AND CASE
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
_FETCH_INSTEAD = f"""
WITH r AS (
    SELECT * FROM json_to_recordset(%(updates)s::json) AS r (
        companies jsonb, phone_index int, message_id uuid, provider_id text, error text)
), refused AS (
    SELECT DISTINCT ON (o.bot_id, o.chat_id, o.id) o.bot_id, o.chat_id, o.id, o.provider_id, r.error
    FROM r JOIN outbox o USING (message_id)
    WHERE {_WITHIN.format("o")} AND o.status = 'sent' AND o.provider_id = r.provider_id
        AND o.payload #>> '{{media,link}}' IS NOT NULL AND NOT o.payload -> 'media' ? 'fetch'
), lanes AS (
    SELECT l.bot_id, l.chat_id FROM lane l JOIN (SELECT DISTINCT bot_id, chat_id FROM refused) c USING (bot_id, chat_id)
    ORDER BY l.bot_id, l.chat_id FOR UPDATE OF l
), again AS (
    UPDATE outbox o SET status = 'queued', provider_id = NULL, updated_at = now(),
        payload = jsonb_set(o.payload, '{{media}}', o.payload -> 'media' || jsonb_build_object(
            'fetch', true, 'refused', f.provider_id)),
        timeline = o.timeline || jsonb_build_array(jsonb_build_object('status', 'queued', 'at', now(), 'code', %(code)s,
            'error', f.error || ': the file is fetched by us and sent again'))
    FROM refused f JOIN lanes USING (bot_id, chat_id)
    WHERE o.bot_id = f.bot_id AND o.chat_id = f.chat_id AND o.id = f.id AND o.status = 'sent'
    RETURNING o.bot_id, o.chat_id, o.id, o.message_id
), reopened AS (
    UPDATE lane l SET pending = l.pending + a.n, done = reopened_at(l.done, l.head, a.first),
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

    Returns the events.
    """
    updates = _without_refused_links(connection, updates)
    rows = [
        {
            **_scope(each),
            "n": each.n,
            "message_id": each.update.message_id,
            "provider_id": each.update.provider_id,
            "status": each.update.status,
            "at": each.update.at,
            "code": each.update.error_code,
            "error": each.update.error,
            "details": each.update.details,
        }
        for each in updates
    ]
    values = {"updates": orjson.dumps(rows).decode(), "process": process, "media_base": media_base}
    return run(connection, (_APPLY_REPORTS, values))


@dataclass(frozen=True, slots=True)
class Placed:
    """A report with its place in the batch and those for whom it speaks."""

    n: int
    update: StatusUpdate
    companies: list[str]  # those that have the number
    bot_id: int | None = None  # the one bot whose secret or browser it came with
    phone_index: int | None = None  # of that bot


def _scope(placed: Placed) -> dict[str, object]:
    return {"bot_id": placed.bot_id, "companies": placed.companies, "phone_index": placed.phone_index}


def _without_refused_links(connection: Connection, updates: list[Placed]) -> list[Placed]:
    """Have messages sent again whose link the provider could not fetch; returns the other updates."""
    rows = [
        {
            **_scope(each),
            "message_id": each.update.message_id,
            "provider_id": each.update.provider_id,
            "error": each.update.error,
        }
        for each in updates
        if each.update.status is Status.FAILED and each.update.error_code == LINK_REFUSED and each.update.message_id
    ]
    if not rows:
        return updates
    with connection.cursor() as cursor:
        cursor.execute(_FETCH_INSTEAD, {"updates": orjson.dumps(rows).decode(), "code": LINK_REFUSED})
        again = {row[0] for row in cursor.fetchall()}
    return [each for each in updates if each.update.message_id not in again]
