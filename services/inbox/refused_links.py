"""Messages whose link the provider could not fetch: we fetch the file, and the message is sent again.

Meta accepts a message with a link, and reports later that it failed.
"""

from collections.abc import Sequence

import orjson

from services.database.connection import Connection, query
from services.outbox.store import SPEAKS_FOR, Report

# The chat's lane goes back to that message. Messages that were accepted after it wait for it, unless they have left.
_RESEND = f"""
WITH r AS (
    SELECT * FROM json_to_recordset(%(updates)s::json) AS r (
        companies jsonb, phone_index int, message_id uuid, provider_id text, code text, error text)
), refused AS (
    SELECT DISTINCT ON (o.bot_id, o.chat_id, o.id) o.bot_id, o.chat_id, o.id, o.provider_id, r.code, r.error
    FROM r JOIN outbox o USING (message_id)
    WHERE {SPEAKS_FOR.format("o")} AND o.status = 'sent' AND o.provider_id = r.provider_id
        AND o.payload #>> '{{media,link}}' IS NOT NULL AND NOT o.payload -> 'media' ? 'fetch'
), lanes AS (
    SELECT l.bot_id, l.chat_id FROM lane l JOIN (SELECT DISTINCT bot_id, chat_id FROM refused) c USING (bot_id, chat_id)
    ORDER BY l.bot_id, l.chat_id FOR UPDATE OF l
), again AS (
    UPDATE outbox o SET status = 'queued', provider_id = NULL, updated_at = now(),
        payload = jsonb_set(o.payload, '{{media}}', o.payload -> 'media' || jsonb_build_object(
            'fetch', true, 'refused', f.provider_id)),
        timeline = o.timeline || jsonb_build_array(jsonb_build_object('status', 'queued', 'at', now(), 'code', f.code,
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


def resend(connection: Connection, reports: Sequence[Report]) -> set[str]:
    """Have the messages whose links were refused sent again, with copies of ours; returns their ids.

    A message that has no link, or whose file we have fetched already, has failed: it is not among them.
    """
    rows = [
        {
            "companies": report.companies,
            "phone_index": report.phone_index,
            "message_id": report.update.message_id,
            "provider_id": report.update.provider_id,
            "code": report.update.error_code,
            "error": report.update.error,
        }
        for report in reports
        if report.update.link_refused and report.update.message_id is not None
    ]
    if not rows:
        return set()
    return {message_id for (message_id,) in query(connection, _RESEND, {"updates": orjson.dumps(rows).decode()})}
