"""Providers' reports of messages that were sent: they move messages forward and become events.

A message whose link the provider could not fetch is sent again with a copy of ours: Meta accepts a message with a link,
and reports later that it failed.

Reports change the history and the events of companies by the same pieces of SQL as outcomes (`store`), and take locks
in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from bisnesctl.database.event_sql import ack_event
from services.database.connection import Connection, Statement, query, run
from services.events.payload_sql import SENT_EVENT
from services.message import StatusUpdate
from services.outbox.store import HISTORY, learn, written

#: Changes and reports of a company that wait for messages which are not there yet, at most; see `message_change`.
MAX_WAITING = 10_000
#: An event for `raise_events`, with the number of its cause among the updates of a batch.
NumberedEvent = tuple[int, str]

# A report reaches the messages of those alone for whom it speaks: one company's number by its own secret or browser, or
# all that have the number that it names. Ids of messages prove nothing: senders choose the echoed data.
SPEAKS_FOR = "r.companies ? {0}.company_id AND (r.phone_index IS NULL OR {0}.phone_index = r.phone_index)"

_NAMES_IN_REPORTS = """
        SELECT company_id, bot_id, chat_of(company_id, chat_id) AS sent_to,
               COALESCE(NULLIF(chat_of(company_id, recipient), chat_of(company_id, chat_id)), user_id) AS other
        FROM locked"""

# The price, and whether a voice message was played. They are reported once more if the status was known before.
_NEWS = """COALESCE((SELECT jsonb_object_agg(key, value) FROM jsonb_each({0})
        WHERE key IN ('pricing', 'conversation', 'played')), '{{}}')"""
#: Fields of a report that its event has, and the timeline does not.
_EVENT_ALONE = "ARRAY['errors', 'recipient_id', 'recipient_parent_user_id', 'recipient_identity_key_hash']"

_REPORTED_EVENT = ack_event(
    "step.status",
    "extract(epoch FROM (entry.value ->> 'at')::timestamptz)",
    "COALESCE(entry.value ->> 'code', w.error_code)",
    "COALESCE(entry.value ->> 'error', w.error)",
    "(entry.value - ARRAY['status', 'at', 'code', 'error'])",
)

# Ignore status reports for a provider ID that was replaced because its media link was refused.
_REPORT = Statement(
    "apply_reports",
    f"""
WITH r AS (
    SELECT * FROM json_to_recordset(%(updates)s::json) AS r (
        n int, bot_id int, companies jsonb, phone_index int, message_id uuid, provider_id text, status message_status,
        at float, code text, error text, details jsonb, recipient text)
), named AS (
    SELECT r.n, COALESCE(r.message_id, (
        SELECT k.message_id FROM wa_key k WHERE k.bot_id = r.bot_id AND k.key_id = split_part(r.provider_id, '_', 3)
    ), (
        SELECT m.id FROM messages m WHERE m.external_id = r.provider_id AND m.provider = %(process)s
            AND {SPEAKS_FOR.format("m")} LIMIT 1
    )) AS message_id, r.bot_id, r.companies, r.phone_index, r.provider_id, r.status, r.at, r.code, r.error, r.details,
        r.recipient
    FROM r
), known AS (
    SELECT r.* FROM named r LEFT JOIN outbox o ON o.message_id = r.message_id
    WHERE o.payload #>> '{{media,refused}}' IS DISTINCT FROM r.provider_id AND CASE
        WHEN o.message_id IS NOT NULL THEN {SPEAKS_FOR.format("o")}
        ELSE EXISTS (SELECT FROM messages m WHERE m.id = r.message_id AND {SPEAKS_FOR.format("m")}) END
), merged AS (
    SELECT message_id, min(n) AS n, NULLIF(max(provider_id), '') AS provider_id, max(recipient) AS recipient,
           max(details ->> 'recipient_user_id') AS user_id, max(status) AS status, max(code) AS code,
           max(error) AS error,
           jsonb_object_agg(status, jsonb_strip_nulls(jsonb_build_object(
               'status', status, 'at', to_timestamp(at), 'code', code, 'error', error)) || details) AS entries
    FROM known GROUP BY message_id
), locked AS (
    SELECT o.bot_id, o.chat_id, o.id, o.message_id, o.company_id, o.status AS before, o.timeline AS former, m.recipient,
           m.user_id
    FROM merged m JOIN outbox o USING (message_id)
    ORDER BY o.bot_id, o.chat_id, o.id FOR UPDATE OF o
), moved AS (
    UPDATE outbox o SET
        status = GREATEST(o.status, m.status), provider_id = COALESCE(o.provider_id, m.provider_id), updated_at = now(),
        error_code = CASE WHEN m.status = 'failed' AND o.status < 'failed' THEN m.code ELSE o.error_code END,
        error = CASE WHEN m.status = 'failed' AND o.status < 'failed' THEN m.error ELSE o.error END,
        timeline = (
            SELECT COALESCE(jsonb_agg(CASE WHEN m.entries ? (step ->> 'status')
                THEN {_NEWS.format("m.entries -> (step ->> 'status')")} || step ELSE step END ORDER BY place), '[]')
            FROM jsonb_array_elements(o.timeline) WITH ORDINALITY AS steps (step, place)
        ) || COALESCE((
            SELECT jsonb_agg(entry.value - {_EVENT_ALONE} ORDER BY entry.key::message_status)
            FROM jsonb_each(m.entries) entry
            WHERE NOT o.timeline @> jsonb_build_array(jsonb_build_object('status', entry.key))), '[]'::jsonb)
    FROM merged m JOIN locked USING (message_id)
    WHERE o.bot_id = locked.bot_id AND o.chat_id = locked.chat_id AND o.id = locked.id
    RETURNING o.*, m.n, m.entries, locked.before, locked.former
), {written("moved", "u.before < 'sent'", ", u.n, u.entries, u.before, u.former")}, {HISTORY}, reported AS (
    UPDATE messages h SET status = m.status::text FROM merged m
    WHERE h.id = m.message_id AND CASE
        WHEN h.status = ANY (enum_range(NULL::message_status)::text[]) THEN h.status::message_status < m.status
        ELSE h.status IS DISTINCT FROM 'revoked' END
), parked AS (  -- the reports of messages that are not there yet
    INSERT INTO message_change AS c (company_id, change_id, kind, target, details, waits)
    SELECT DISTINCT ON (company_id, provider_id) company_id, 'status ' || provider_id, 'status', provider_id,
           jsonb_build_object('company_id', company_id, 'status', status, 'process', %(process)s, 'bot_id', bot_id),
           true
    FROM named CROSS JOIN LATERAL jsonb_array_elements_text(companies) AS speaks (company_id)
    WHERE message_id IS NULL AND (
        SELECT count(*) FROM (SELECT FROM message_change w WHERE w.company_id = speaks.company_id AND w.waits
        LIMIT {MAX_WAITING}) w) < {MAX_WAITING}
    ORDER BY company_id, provider_id, status DESC
    ON CONFLICT (company_id, change_id) DO UPDATE SET details = excluded.details, waits = true
        WHERE (c.details ->> 'status')::message_status < (excluded.details ->> 'status')::message_status
), learned AS (
    {learn(_NAMES_IN_REPORTS)}
)
SELECT n, event::text FROM (
    SELECT w.n, w.id, 0 AS place, {SENT_EVENT} AS event FROM written w JOIN event_feed USING (company_id)
        JOIN history ON history.id = w.message_id
    UNION ALL
    SELECT w.n, w.id, 1 + array_position(enum_range(NULL::message_status), entry.key::message_status),
        {_REPORTED_EVENT}
    FROM written w JOIN event_feed USING (company_id) CROSS JOIN LATERAL jsonb_each(w.entries) entry
    CROSS JOIN LATERAL (
        SELECT entry.key <> 'failed' AND NOT w.former @> jsonb_build_array(jsonb_build_object('status', entry.key))
            AS fresh, {_NEWS.format("entry.value")} AS news) said
    CROSS JOIN LATERAL (
        SELECT CASE WHEN said.fresh THEN entry.key::message_status
            ELSE GREATEST(entry.key::message_status, w.before) END AS status) step
    WHERE w.kind <> 'read' AND (said.fresh OR entry.key::message_status > w.before OR said.news <> '{{}}'
        AND NOT w.former @> jsonb_build_array(jsonb_build_object('status', entry.key) || said.news))
) events ORDER BY n, id, place""",
    updates="json", process="text", media_base="text",
)  # fmt: skip

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


@dataclass(frozen=True, slots=True)
class Report:
    """A provider's report, with its number in the batch and the companies for which it speaks."""

    n: int
    update: StatusUpdate
    companies: list[str]  # those that have the number
    bot_id: int | None = None  # the one bot whose secret or browser it came with
    phone_index: int | None = None  # of that bot


def apply_reports(
    connection: Connection, process: str, media_base: str, reports: Sequence[Report]
) -> list[NumberedEvent]:
    """Move messages forward as their provider reports, and return the events.

    Repeated reports change nothing; those of unknown messages wait for them. A status moves forward only. Each step is
    reported once, also one that is reported after a later step, and once more if a later report has the price. A
    message whose link was refused is sent again instead.
    """
    resent = _resend(connection, reports)
    reports = [report for report in reports if report.update.message_id not in resent]
    if not reports:
        return []
    rows = [
        {
            "n": report.n,
            "bot_id": report.bot_id,
            "companies": report.companies,
            "phone_index": report.phone_index,
            "message_id": report.update.message_id,
            "provider_id": report.update.provider_id,
            "status": report.update.status,
            "at": report.update.at,
            "code": report.update.error_code,
            "error": report.update.error,
            "details": report.update.details,
            "recipient": report.update.recipient,
        }
        for report in _merged(reports)
    ]
    values = {"updates": orjson.dumps(rows).decode(), "process": process, "media_base": media_base}
    return run(connection, (_REPORT, values))


def _resend(connection: Connection, reports: Sequence[Report]) -> set[str]:
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


def _merged(reports: Sequence[Report]) -> list[Report]:
    """The reports, those of the same status of the same message as one with the details of all."""
    found: dict[tuple[Any, ...], Report] = {}
    for report in reports:
        update = report.update
        name = (report.bot_id, update.number, update.message_id, update.provider_id, update.status)
        if earlier := found.get(name):
            merged = replace(earlier.update, details=earlier.update.details | update.details)
            report = replace(earlier, update=merged)
        found[name] = report
    return list(found.values())


def raise_events(connection: Connection, events: Sequence[NumberedEvent]) -> None:
    """Raise events in the order of their numbers; for those of one number, their order here."""
    if events:
        ordered = [orjson.Fragment(event) for _, event in sorted(events, key=lambda each: each[0])]
        query(connection, "SELECT raise_events(%s)", (orjson.dumps(ordered).decode(),))
