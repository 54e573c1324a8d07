"""The SQL of messages on their way out: claim due ones, record their outcomes.

Outcomes, and the providers' reports that follow (`reports`), change a message's row in the outbox. Both write the
history, which other systems read, and the events of companies that asked for events. They do so by the same pieces of
SQL, which read the CTE `written`: the changed rows of `outbox` as they are now.

Lock order, so that nothing deadlocks: lanes in order of (bot, chat), then outbox rows in order of their key, then
bot_pace in order of bot. Claims skip lanes that are locked and never wait for one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from bisnesctl.bots.ownership import Side
from bisnesctl.database.event_sql import NOW, ack_event
from services.database.connection import Connection, Statement, query, query_value, run
from services.events.payload_sql import CONTENT, MEDIA_URL, SENT_EVENT
from services.message import Outgoing, Status
from services.outbox.outcome_policy import Result

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
_NEW_HISTORY = f"""history AS (
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

HISTORY = f"""{_NEW_HISTORY}, reacted AS (
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
_NEW_CONTACTS = f"""contact AS (
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
_CONTACTS = f"""renamed AS (  -- a message that was sent again because its link was refused has a new provider id
    UPDATE messages m SET external_id = w.provider_id FROM written w WHERE m.id = w.message_id AND m.external_id IS NULL
), {_NEW_CONTACTS}, seen AS (
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


#: The kinds of messages that add to the history, and change nothing in it, when they are sent.
_PLAIN_KINDS = frozenset({"text", "template"})

_RECORD_TYPES = {"results": "json", "process": "text", "media_base": "text"}

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
_RECORD = Statement(
    "record",
    f"""{_UPDATED}, {HISTORY}, {_CONTACTS}
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
    **_RECORD_TYPES,
)

# A step that was reported before the answer was recorded gets its event now.
#: Records that messages of `_PLAIN_KINDS` were sent. It has a plan for that alone, since to start one costs as much as
#: to run it. Its one row is that of `_RECORD`.
_RECORD_SENT = Statement(
    "record_sent",
    f"""{_UPDATED}, {_NEW_HISTORY}, {_NEW_CONTACTS}
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
    **_RECORD_TYPES,
)

# Locks: only rows that nobody else writes.
_RECORD_UNKNOWN = Statement(
    "record_unknown",
    """
INSERT INTO unknown_message (message_id)
SELECT o.message_id FROM json_to_recordset(%(results)s::json) AS r (bot_id int, chat_id text, id bigint)
    JOIN outbox o USING (bot_id, chat_id, id) WHERE o.status = 'unknown'
ON CONFLICT DO NOTHING""",
    results="json",
)

#: Keeps the ids by which the provider knows chats, if it named others.
_LEARN = Statement(
    "learn_names",
    learn("""SELECT c.company_id, r.bot_id, chat_of(c.company_id, r.chat_id) AS sent_to,
        chat_of(c.company_id, r.recipient) AS other
    FROM json_to_recordset(%(results)s::json) AS r (bot_id int, chat_id text, recipient text)
    JOIN phone_configs c ON c.id = r.bot_id"""),
    results="json",
)

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
            steps.append((_LEARN, {"results": rows}))  # before the history, which has one id for a chat
        is_plain = all(each.status is Status.SENT and each.kind in _PLAIN_KINDS for each in results)
        values = {"results": rows, "process": self.channel, "media_base": self.media_base}
        steps.append((_RECORD_SENT if is_plain else _RECORD, values))
        if any(result.status is Status.UNKNOWN for result in results):
            steps.append((_RECORD_UNKNOWN, {"results": rows}))
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
