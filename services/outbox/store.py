"""The SQL of messages on their way out: claim due ones, record their outcomes, apply their providers' reports.

Outcomes and reports change a message's row in the outbox. Both write the history, which other systems read, and the
events of companies that asked for events. They do so by the same pieces of SQL, which read the CTE `written`: the
changed rows of `outbox` as they are now.

Lock order, so that nothing deadlocks: lanes in order of (bot, chat), then outbox rows in order of their key, then
bot_pace in order of bot. Claims skip lanes that are locked and never wait for one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from bisnesctl.bots.ownership import Side
from bisnesctl.database.event_sql import ack_event
from services.database.connection import Connection, Statement, query, query_value, run
from services.events.payload_sql import SENT_EVENT
from services.message import Outgoing, Status, StatusUpdate
from services.outbox.outcome_policy import Result
from services.outbox.outcome_sql import HISTORY, LEARN, PLAIN_KINDS, RECORD, RECORD_SENT, RECORD_UNKNOWN, learn, written

#: Changes and reports of a company that wait for messages which are not there yet, at most; see `message_change`.
MAX_WAITING = 10_000
#: An event for `raise_events`, with the number of its cause among the updates of a batch.
NumberedEvent = tuple[int, str]
#: A statement with its parameters.
Step = tuple[Statement, dict[str, Any]]

#: SQL of a CTE: the bots with waiting chats, each found by one look at the index, however many other bots there are.
_WAITING = """waiting AS (
    (SELECT bot_id FROM lane WHERE pending > 0 AND claim IS NULL AND bot_id >= COALESCE(%(bot)s::int, 0)
     ORDER BY bot_id LIMIT 1)
    UNION ALL
    SELECT (SELECT l.bot_id FROM lane l WHERE l.pending > 0 AND l.claim IS NULL AND l.bot_id > w.bot_id
            ORDER BY l.bot_id LIMIT 1) FROM waiting w WHERE w.bot_id IS NOT NULL AND %(bot)s::int IS NULL
)"""

# Only bots of the own side, and none that is being handed over. Each that has a due lane gets its fair share of the
# limit, and at most what its token bucket holds: the messages of a second, or one if its rate is lower. One that stays
# empty for longer than that is of a clock that was set back. A bot with an outage gets a single message, which finds
# out whether it is over, and no other within the lease. A message that does not leave at once, or whose worker marks
# all that leaves, is unmarked until it may leave.
CLAIM_PARTS = f"""
WITH RECURSIVE {_WAITING}, ready AS (
    SELECT p.bot_id, p.owner_epoch AS epoch, r.rate,
           CASE WHEN p.outage_since IS NOT NULL THEN p.outage_code END AS outage,
           CASE WHEN p.free_at BETWEEN now() - d.depth AND now() + 2 * d.depth
                THEN LEAST(p.free_at, now()) ELSE now() - d.depth END AS free_at
    FROM waiting JOIN bot_pace p USING (bot_id) CROSS JOIN LATERAL (
        SELECT COALESCE(p.rate, %(rate)s)::float * CASE WHEN p.slow_until > now() THEN p.slow_factor ELSE 1 END AS rate
    ) r CROSS JOIN LATERAL (
        SELECT GREATEST(1, LEAST(1 / r.rate, 86400)) * interval '1 second' AS depth
    ) d
    WHERE p.process_name = %(process)s AND (%(bot)s IS NULL OR p.bot_id = %(bot)s) AND p.held_until <= now()
        AND p.paused_until <= now() AND p.drain_until <= now()
        AND (p.owner IS NULL OR %(side)s IS NULL OR p.owner = %(side)s)
        AND EXISTS (
            SELECT FROM lane l WHERE l.bot_id = p.bot_id AND l.pending > 0 AND l.claim IS NULL AND l.due <= now())
    ORDER BY p.bot_id FOR UPDATE OF p
), budget AS (
    SELECT bot_id, epoch, rate, free_at, outage,
           LEAST(CASE WHEN outage IS NOT NULL THEN 1 END, floor(extract(epoch FROM now() - free_at) * rate + 0.001),
                 ceil(%(limit)s::float / count(*) OVER ()),
                 GREATEST(ceil((%(room)s - COALESCE(held, 0)) / 3.0), 0))::bigint AS share
    FROM ready LEFT JOIN json_to_recordset(%(in_hand)s::json) AS input_rows (bot_id int, held int) USING (bot_id)
), picked AS (
    SELECT b.bot_id, b.epoch, b.outage, l.chat_id, l.done, l.fence + 1 AS fence, l.pending > 1 AS is_followed
    FROM budget b CROSS JOIN LATERAL (
        SELECT chat_id, done, fence, pending FROM lane
        WHERE bot_id = b.bot_id AND pending > 0 AND claim IS NULL AND due <= now()
        ORDER BY due LIMIT b.share FOR UPDATE SKIP LOCKED) l
    LIMIT %(limit)s
), heads AS (
    SELECT p.bot_id, p.epoch, p.chat_id, p.outage, p.fence, p.is_followed, o.*,
           %(bot)s IS NULL AND (%(marks)s OR o.payload ? 'media') AS unmarked
    FROM picked p CROSS JOIN LATERAL (
        SELECT id, message_id, kind, payload, attempts, provider_id, request_id FROM outbox
        WHERE bot_id = p.bot_id AND chat_id = p.chat_id AND id > p.done AND status <= 'sending'
        ORDER BY id LIMIT 1) o
), claimed AS (
    UPDATE lane l SET claim = %(worker)s, head = h.id, due = now() + %(lease)s * interval '1 second',
                      fence = h.fence, epoch = h.epoch, unmarked = CASE WHEN h.unmarked THEN %(worker)s END
    FROM heads h WHERE l.bot_id = h.bot_id AND l.chat_id = h.chat_id
), claims AS (
    SELECT bot_id, count(*) AS n FROM heads GROUP BY bot_id
), paced AS (
    UPDATE bot_pace p SET free_at = b.free_at + claims.n / b.rate * interval '1 second',
        held_until = CASE WHEN b.outage IS NULL THEN p.held_until ELSE now() + %(lease)s * interval '1 second' END
    FROM budget b JOIN claims USING (bot_id) WHERE p.bot_id = b.bot_id
)"""
#: The columns of a claimed message, in the order of `Outgoing`.
CLAIM_COLUMNS = """id, message_id::text, bot_id, chat_id, kind, payload::text, attempts, provider_id, outage, fence,
       unmarked, request_id, is_followed"""
#: Whether there may be more to claim at once; a row in any case.
CLAIM_END = """(
    SELECT EXISTS (SELECT FROM budget LEFT JOIN claims USING (bot_id) WHERE COALESCE(n, 0) >= share) AS may_be_more
) ended"""
#: The types of the parameters of a claim.
CLAIM_TYPES = {
    "process": "text", "bot": "int", "side": "text", "limit": "int", "worker": "text", "rate": "float",
    "lease": "float", "in_hand": "json", "room": "int", "marks": "boolean",
}  # fmt: skip
_CLAIM = Statement(
    "claim",
    f"{CLAIM_PARTS} SELECT {CLAIM_COLUMNS}, may_be_more FROM {CLAIM_END} LEFT JOIN heads ON true", **CLAIM_TYPES,
)  # fmt: skip

# Locks: lanes, in the order of the list.
_MARK = Statement(
    "mark",
    """
WITH r AS (
    SELECT * FROM json_to_recordset(%(claims)s::json) AS r (bot_id int, chat_id text, fence bigint)
    ORDER BY bot_id, chat_id
)
UPDATE lane l SET unmarked = NULL, due = now() + %(lease)s * interval '1 second'
FROM r WHERE l.bot_id = r.bot_id AND l.chat_id = r.chat_id AND l.claim = %(worker)s AND l.fence = r.fence
RETURNING l.bot_id, l.chat_id, l.fence""",
    claims="json", worker="text", lease="float",
)  # fmt: skip

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

# Ignore status reports for a provider ID that was replaced because its media link was refused.
_REPORTED_EVENT = ack_event(
    "step.status",
    "extract(epoch FROM (entry.value ->> 'at')::timestamptz)",
    "COALESCE(entry.value ->> 'code', w.error_code)",
    "COALESCE(entry.value ->> 'error', w.error)",
    "(entry.value - ARRAY['status', 'at', 'code', 'error'])",
)

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

# A claim of a former owner is not renewed: the bot's owner gets the message as soon as the lease is over.
_RENEW = """
UPDATE lane l SET due = now() + %s * interval '1 second' WHERE claim = %s
    AND NOT EXISTS (SELECT FROM bot_pace p WHERE p.bot_id = l.bot_id AND p.owner_epoch > COALESCE(l.epoch, 0))"""
HAS_DUE = f"""
WITH RECURSIVE {_WAITING}
SELECT EXISTS (
    SELECT FROM waiting JOIN bot_pace p USING (bot_id)
    WHERE p.process_name = %(process)s AND (%(bot)s IS NULL OR p.bot_id = %(bot)s) AND p.held_until <= now()
        AND p.paused_until <= now() AND p.drain_until <= now()
        AND (p.owner IS NULL OR %(side)s IS NULL OR p.owner = %(side)s)
        AND EXISTS (
            SELECT FROM lane l WHERE l.bot_id = p.bot_id AND l.pending > 0 AND l.claim IS NULL AND l.due <= now()))"""


@dataclass(frozen=True, slots=True)
class Report:
    """A provider's report, with its number in the batch and the companies for which it speaks."""

    n: int
    update: StatusUpdate
    companies: list[str]  # those that have the number
    bot_id: int | None = None  # the one bot whose secret or browser it came with
    phone_index: int | None = None  # of that bot


class Exchanged(NamedTuple):
    """The claimed messages, and whether others that were due may be left, such as those of a number without room."""

    claimed: list[Outgoing]
    may_be_more: bool


@dataclass(frozen=True, slots=True)
class Outbox:
    """One worker's view of the outbox: it claims under its own name, at its channel's pace."""

    channel: str  # its name: meta
    worker: str  # <host>/<instance>/<run>
    rate: float  # messages a second for each bot that sets none of its own
    lease: float  # seconds
    media_base: str = ""  # the beginning of links to our copies of media
    bot_id: int | None = None  # the one bot that it serves; None: every bot of the channel
    side: Side | None = None  # it serves only the bots that this side owns; None: those of both sides

    def exchange(
        self,
        connection: Connection,
        results: list[Result],
        limit: int,
        in_hand: Mapping[int, int] | None = None,
        marks: bool = False,
    ) -> Exchanged:
        """Record the results of claimed messages and claim up to `limit` more, in one transaction and round trip.

        `in_hand`: how many messages each number, by its id, has in hand already. With it, no number gets more than
        leaves half as much free: however many providers hang, some room is left for the next. `marks`: whether each of
        them is marked (`mark`) before it leaves, and not only those with files.
        """
        steps: list[Step] = []
        if results:
            steps += self._record_steps(results)
        if limit:
            held = orjson.dumps([{"bot_id": bot_id, "held": count} for bot_id, count in (in_hand or {}).items()])
            room = 3 * limit if in_hand is None else 2 * limit
            pace = {"rate": self.rate, "lease": self.lease, "in_hand": held.decode(), "room": room}
            bots = {"process": self.channel, "bot": self.bot_id, "side": self.side}
            worker = bots | {"worker": self.worker, "limit": limit}
            return self._claim(connection, steps, worker | pace | {"marks": marks})
        if not steps:
            return Exchanged([], False)
        rows = run(connection, *steps)
        return Exchanged([], not rows or rows[0][-1])

    def _claim(self, connection: Connection, steps: Sequence[Step], values: dict[str, Any]) -> Exchanged:
        """Claim after other steps of the same transaction."""
        return exchanged(run(connection, *steps, (_CLAIM, values)))

    def _record_steps(self, results: list[Result]) -> list[Step]:
        rows = orjson.dumps(results).decode()
        steps: list[Step] = []
        if any(result.recipient not in (None, result.chat_id) for result in results):
            steps.append((LEARN, {"results": rows}))  # before the history, which has one id for a chat
        is_plain = all(each.status is Status.SENT and each.kind in PLAIN_KINDS for each in results)
        values = {"results": rows, "process": self.channel, "media_base": self.media_base}
        steps.append((RECORD_SENT if is_plain else RECORD, values))
        if any(result.status is Status.UNKNOWN for result in results):
            steps.append((RECORD_UNKNOWN, {"results": rows}))
        return steps

    def claim(self, connection: Connection, limit: int) -> list[Outgoing]:
        """Claim up to `limit` messages: the oldest of each due chat."""
        return self.exchange(connection, [], limit).claimed

    def record(self, connection: Connection, results: list[Result]) -> None:
        """Record the results of claimed messages and free their chats."""
        self.exchange(connection, results, 0)

    def mark(self, connection: Connection, messages: Iterable[Outgoing]) -> set[tuple[Any, ...]]:
        """Mark that claimed messages may leave from now on, and renew their leases.

        Returns the claims that still hold, each as its bot, chat and fence. All others must not leave: another worker
        may have sent them.
        """
        claims = [{"bot_id": each.bot_id, "chat_id": each.chat_id, "fence": each.fence} for each in messages]
        values = {"claims": orjson.dumps(claims).decode(), "worker": self.worker, "lease": self.lease}
        return set(run(connection, (_MARK, values)))

    def renew(self, connection: Connection) -> None:
        """Renew the lease of everything that this worker has in hand."""
        query(connection, _RENEW, (self.lease, self.worker))

    def has_due(self, connection: Connection) -> bool:
        """Whether any chat of the channel could be served now."""
        return bool(query_value(connection, HAS_DUE, {"process": self.channel, "bot": self.bot_id, "side": self.side}))


def exchanged(rows: list[tuple[Any, ...]]) -> Exchanged:
    """The rows of a claim: a single one without an id if nothing was claimed."""
    claimed = [
        Outgoing(number, message_id, bot_id, chat_id, kind, orjson.loads(payload), *further)
        for number, message_id, bot_id, chat_id, kind, payload, *further, _ in rows
        if number is not None
    ]
    return Exchanged(claimed, rows[0][-1])


def apply_reports(
    connection: Connection, process: str, media_base: str, reports: Sequence[Report]
) -> list[NumberedEvent]:
    """Move messages forward as their provider reports, and return the events.

    Repeated reports change nothing; those of unknown messages wait for them. A status moves forward only. Each step is
    reported once, also one that is reported after a later step, and once more if a later report has the price.
    """
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
