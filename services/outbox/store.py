"""The SQL of messages and bots: the one place where the outbox is written.

Lock order, so that nothing deadlocks: lanes in order of (bot, chat), then outbox rows in order of their key, then
bot_pace in order of bot. Claims skip lanes that are locked and never wait for one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import orjson

from services.database.connection import Connection, Statement, run, transaction
from services.message import Outgoing, Scope, Status
from services.outbox.history_sql import CONTACTS, HISTORY, OUTCOME_EVENTS


@dataclass(frozen=True, slots=True)
class Entry:
    """A message to be accepted."""

    message_id: str
    process: str  # the channel that will send it
    bot_id: int
    company_id: str
    phone_index: int
    chat_id: str
    kind: str
    payload: dict[str, Any]
    idempotency_key: str | None = None
    digest: str | None = None  # SHA-256 in hex of the request, with an idempotency key


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an idempotency key was first used for."""

    digest: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a claimed message, for its row and its lane.

    `final` frees the chat's next message; without it the message stays the oldest and is due again in `after`
    seconds. A `status` of None says that no attempt was made.
    """

    bot_id: int
    chat_id: str
    id: int
    claim: str
    final: bool
    status: Status | None
    after: float = 0.0
    provider_id: str | None = None
    code: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A number, or every number of its business account, that sends nothing for a while."""

    bot_id: int
    scope: Scope
    after: float | None  # seconds; None: until an operator acts
    reason: str
    slower: bool = False  # its rate is halved for a while as well


# The lanes are locked before the first id is drawn, so ids of a chat become visible in their order. The time is
# compared once, when the server gets to the statement.
_ACCEPT = """
WITH given AS (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS given (
        message_id uuid, bot_id int, company_id text, phone_index int, chat_id text, kind text, payload jsonb,
        idempotency_key text, digest text, n int)
    WHERE (SELECT clock_timestamp() < to_timestamp(%(not_after)s))
), fresh_keys AS (
    INSERT INTO idempotency_keys (company_id, key, digest, message_id)
    SELECT company_id, idempotency_key, decode(digest, 'hex'), message_id FROM given
    WHERE idempotency_key IS NOT NULL ORDER BY company_id, idempotency_key
    ON CONFLICT DO NOTHING RETURNING message_id
), fresh AS (
    SELECT * FROM given WHERE idempotency_key IS NULL OR message_id IN (SELECT message_id FROM fresh_keys)
), locked AS (
    INSERT INTO lane AS l (bot_id, chat_id, pending)
    SELECT bot_id, chat_id, count(*) FROM fresh GROUP BY bot_id, chat_id ORDER BY bot_id, chat_id
    ON CONFLICT (bot_id, chat_id) DO UPDATE
        SET pending = l.pending + excluded.pending, due = CASE WHEN l.pending = 0 THEN now() ELSE l.due END
    RETURNING bot_id, chat_id
)
INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload)
SELECT bot_id, chat_id, message_id, company_id, phone_index, kind, payload
FROM fresh JOIN locked USING (bot_id, chat_id) ORDER BY n
RETURNING message_id::text, extract(epoch FROM clock_timestamp())::float"""

_EARLIER = """
SELECT company_id, key, encode(digest, 'hex'), message_id::text FROM idempotency_keys
WHERE (company_id, key) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"""

# Each bot that has a due lane gets its fair share of the limit, and at most what its token bucket holds: the messages
# of a second, or one if its rate is lower. One that stays empty for longer than that is of a clock that was set back.
# A bot with an outage gets a single message, which finds out whether it is over, and no other within the lease.
_CLAIM = """
WITH ready AS (
    SELECT p.bot_id, r.rate,
           CASE WHEN p.outage_since IS NOT NULL THEN p.outage_code END AS outage,
           CASE WHEN p.free_at BETWEEN now() - d.depth AND now() + 2 * d.depth
                THEN LEAST(p.free_at, now()) ELSE now() - d.depth END AS free_at
    FROM bot_pace p CROSS JOIN LATERAL (
        SELECT COALESCE(p.rate, %(rate)s)::float * CASE WHEN p.slow_until > now() THEN p.slow_factor ELSE 1 END AS rate
    ) r CROSS JOIN LATERAL (
        SELECT GREATEST(1, LEAST(1 / r.rate, 86400)) * interval '1 second' AS depth
    ) d
    WHERE p.process_name = %(process)s AND (%(bot)s IS NULL OR p.bot_id = %(bot)s) AND p.held_until <= now()
        AND EXISTS (
            SELECT FROM lane l WHERE l.bot_id = p.bot_id AND l.pending > 0 AND l.claim IS NULL AND l.due <= now())
    ORDER BY p.bot_id FOR UPDATE OF p
), budget AS (
    SELECT bot_id, rate, free_at, outage,
           LEAST(CASE WHEN outage IS NOT NULL THEN 1 END, floor(extract(epoch FROM now() - free_at) * rate + 0.001),
                 ceil(%(limit)s::float / count(*) OVER ()),
                 GREATEST(ceil((%(room)s - COALESCE(held, 0)) / 3.0), 0))::bigint AS share
    FROM ready LEFT JOIN json_to_recordset(%(in_hand)s::json) AS given (bot_id int, held int) USING (bot_id)
), picked AS (
    SELECT b.bot_id, b.outage, l.chat_id, l.done FROM budget b CROSS JOIN LATERAL (
        SELECT chat_id, done FROM lane
        WHERE bot_id = b.bot_id AND pending > 0 AND claim IS NULL AND due <= now()
        ORDER BY due LIMIT b.share FOR UPDATE SKIP LOCKED) l
    LIMIT %(limit)s
), heads AS (
    SELECT p.bot_id, p.chat_id, p.outage, o.* FROM picked p CROSS JOIN LATERAL (
        SELECT id, message_id, kind, payload, attempts, provider_id FROM outbox
        WHERE bot_id = p.bot_id AND chat_id = p.chat_id AND id > p.done AND status <= 'sending'
        ORDER BY id LIMIT 1) o
), claimed AS (
    UPDATE lane l SET claim = %(worker)s, head = h.id, due = now() + %(lease)s * interval '1 second'
    FROM heads h WHERE l.bot_id = h.bot_id AND l.chat_id = h.chat_id
), paced AS (
    UPDATE bot_pace p SET free_at = b.free_at + taken.n / b.rate * interval '1 second',
        held_until = CASE WHEN b.outage IS NULL THEN p.held_until ELSE now() + %(lease)s * interval '1 second' END
    FROM budget b JOIN (SELECT bot_id, count(*) AS n FROM heads GROUP BY bot_id) taken USING (bot_id)
    WHERE p.bot_id = b.bot_id
)
SELECT id, message_id::text, bot_id, chat_id, kind, payload::text, attempts, provider_id, outage FROM heads"""

# A `done` below 0 says that an older message was queued once more while this one was in hand, see reopened_at().
# A result whose lane is no longer ours (the lease ran out while the database was away) still settles what is unknown.
# `settled` is kept apart, since a row that a report has just changed is joined once more ("EvalPlanQual"), in which
# PostgreSQL refuses to run `freed`.
_RECORD = (
    """
WITH r AS (
    SELECT * FROM json_to_recordset(%(results)s::json) AS r (
        bot_id int, chat_id text, id bigint, claim text, final bool, status message_status, after float,
        provider_id text, code text, error text)
    ORDER BY bot_id, chat_id
), freed AS (
    UPDATE lane l SET claim = NULL, head = NULL, pending = l.pending - r.final::int,
                      done = CASE WHEN l.done < 0 THEN -l.done - 1 WHEN r.final THEN r.id ELSE l.done END,
                      due = now() + r.after * interval '1 second'
    FROM r WHERE l.bot_id = r.bot_id AND l.chat_id = r.chat_id AND l.claim = r.claim AND l.head = r.id
    RETURNING r.*
), settled AS MATERIALIZED (
    SELECT * FROM freed WHERE status IS NOT NULL
    UNION ALL
    SELECT r.* FROM r CROSS JOIN LATERAL (  -- a look-up each, which no plan turns into a scan
        SELECT status FROM outbox WHERE bot_id = r.bot_id AND chat_id = r.chat_id AND id = r.id OFFSET 0) o
    WHERE r.id NOT IN (SELECT id FROM freed) AND r.status IS NOT NULL AND o.status = 'unknown'
), written AS (
    UPDATE outbox o SET
        status = CASE WHEN o.status <= 'sending' THEN r.status ELSE GREATEST(o.status, r.status) END,
        attempts = o.attempts + 1,
        provider_id = COALESCE(r.provider_id, o.provider_id),
        error_code = r.code, error = r.error, updated_at = now(),
        timeline = o.timeline || CASE
            WHEN r.final AND o.timeline @> jsonb_build_array(jsonb_build_object('status', r.status)) THEN '[]'::jsonb
            ELSE jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
                'status', r.status, 'at', now(), 'attempt', o.attempts + 1, 'code', r.code, 'error', r.error))) END
    FROM settled r WHERE o.bot_id = r.bot_id AND o.chat_id = r.chat_id AND o.id = r.id
    RETURNING o.*
), """
    + f"{HISTORY}, {CONTACTS} {OUTCOME_EVENTS}"
)

# Locks: only what nobody else writes.
_NOTE_UNKNOWN = """
INSERT INTO unknown_message (message_id)
SELECT o.message_id FROM json_to_recordset(%(results)s::json) AS r (bot_id int, chat_id text, id bigint)
    JOIN outbox o USING (bot_id, chat_id, id) WHERE o.status = 'unknown'
ON CONFLICT DO NOTHING"""

#: Seconds for which a throttled number stays slow, and the least of its rate that is left to it.
SLOW_SECONDS, SLOWEST = 60, 1 / 16

# A hold that needs an operator is told to the customer and to whoever reads process_events. Locks: event_feed first.
_TELL_HELD = """
WITH held AS (
    SELECT DISTINCT ON (h.bot_id) h.bot_id, h.reason, p.process_name
    FROM json_to_recordset(%(holds)s::json) AS h (bot_id int, after float, reason text)
    JOIN bot_pace p USING (bot_id) WHERE h.after IS NULL AND p.held_until <> 'infinity'
), noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, 'bot_waiting', bot_status_event(bot_id, 'waiting', reason), 'error' FROM held
)
SELECT raise_events(jsonb_agg(bot_status_event(bot_id, 'waiting', reason))) FROM held"""
_HOLD = """
WITH h AS (
    SELECT * FROM json_to_recordset(%(holds)s::json) AS h (
        bot_id int, scope text, after float, reason text, slower bool)
), meant AS (
    SELECT bot_id, after, reason, slower FROM h
    UNION ALL
    SELECT other.id, after, reason, slower FROM h JOIN phone_configs c ON c.id = h.bot_id
    JOIN phone_configs other ON other.meta_waba_id = c.meta_waba_id AND other.process_name = c.process_name
        AND other.id <> c.id
    WHERE h.scope = 'account' AND c.meta_waba_id <> ''
), merged AS (
    SELECT bot_id, CASE WHEN bool_or(after IS NULL) THEN NULL ELSE max(after) END AS after,
           (array_agg(reason ORDER BY after DESC NULLS FIRST))[1] AS reason, bool_or(slower) AS slower
    FROM meant GROUP BY bot_id
), locked AS (
    SELECT bot_id FROM bot_pace WHERE bot_id IN (SELECT bot_id FROM merged) ORDER BY bot_id FOR UPDATE
)
UPDATE bot_pace p SET
    held_reason = CASE WHEN p.held_until = 'infinity' THEN p.held_reason ELSE m.reason END,
    held_until = GREATEST(
        p.held_until, CASE WHEN m.after IS NULL THEN 'infinity' ELSE now() + m.after * interval '1 second' END),
    slow_factor = CASE WHEN NOT m.slower THEN p.slow_factor WHEN p.slow_until <= now() THEN 0.5
                       ELSE GREATEST(p.slow_factor / 2, %(slowest)s) END,
    slow_until = CASE WHEN m.slower THEN now() + %(slow)s * interval '1 second' ELSE p.slow_until END
FROM merged m JOIN locked USING (bot_id) WHERE p.bot_id = m.bot_id"""

_RENEW = """
UPDATE lane SET due = now() + %s * interval '1 second' WHERE claim = %s"""
_EXPIRED = """
SELECT l.bot_id, l.chat_id, l.head, l.claim FROM lane l JOIN bot_pace p USING (bot_id)
WHERE l.claim IS NOT NULL AND l.due <= now() AND p.process_name = %s LIMIT 1000"""
_CLAIMED_OF = "SELECT bot_id, chat_id, head, claim FROM lane WHERE bot_id = %s AND claim IS NOT NULL AND claim <> %s"
_RESERVE = """
WITH known AS (
    INSERT INTO wa_key (bot_id, key_id, message_id)
    SELECT %(bot)s, split_part(%(key)s, '_', 3), %(message)s::uuid WHERE %(key)s IS NOT NULL ON CONFLICT DO NOTHING
)
UPDATE outbox SET provider_id = %(key)s WHERE bot_id = %(bot)s AND chat_id = %(chat)s AND id = %(id)s"""
_CLAIMED_BY = """
SELECT bot_id, chat_id, head, claim FROM lane WHERE claim IS NOT NULL AND starts_with(claim, %s)"""
_DUE = """
SELECT EXISTS (
    SELECT FROM bot_pace p
    WHERE p.process_name = %(process)s AND (%(bot)s IS NULL OR p.bot_id = %(bot)s) AND p.held_until <= now()
        AND EXISTS (
            SELECT FROM lane l WHERE l.bot_id = p.bot_id AND l.pending > 0 AND l.claim IS NULL AND l.due <= now()))"""


_ACCEPT_ROWS = Statement("accept", _ACCEPT, rows="json", not_after="float")
_RECORD_RESULTS = Statement("record", _RECORD, results="json", process="text", media_base="text")
_NOTE_UNKNOWN_RESULTS = Statement("note_unknown", _NOTE_UNKNOWN, results="json")
_CLAIM_DUE = Statement(
    "claim", _CLAIM, process="text", bot="int", limit="int", worker="text", rate="float", lease="float",
    in_hand="json", room="int",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A message whose worker went away, or whose lease ran out."""

    bot_id: int
    chat_id: str
    id: int
    claim: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of messages that were to be accepted, which are either all looked at or, if it was too late, none."""

    stored: set[str]  # ids of the messages that are new and now durable
    earlier: dict[tuple[str, str], Earlier]  # by company and idempotency key that had been used before
    at: float | None  # the database's time, in seconds since the epoch; None: nothing was stored


def accept(connection: Connection, entries: list[Entry], not_after: float = math.inf) -> Acceptance:
    """Store messages in one commit, in their order, unless the database's clock is past `not_after` by then.

    `not_after`: seconds since the epoch.
    """
    rows = [asdict(entry) | {"n": n} for n, entry in enumerate(entries)]
    found = run(connection, (_ACCEPT_ROWS, {"rows": orjson.dumps(rows).decode(), "not_after": not_after}))
    stored = {row[0] for row in found}
    repeated = [entry for entry in entries if entry.message_id not in stored]
    return Acceptance(stored, _earlier(connection, repeated) if repeated else {}, found[-1][1] if found else None)


def existing(connection: Connection, message_ids: list[str]) -> set[str]:
    """Which of the messages are stored."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT message_id::text FROM outbox WHERE message_id = ANY(%s::uuid[])", (message_ids,))
        return {row[0] for row in cursor.fetchall()}


#: Milliseconds that a withdrawal waits for a lane that somebody else has locked: the messages of others wait behind it.
WITHDRAW_LOCK_MILLISECONDS = 500
# What a worker has in hand, or had, is left alone.
_WITHDRAW = f"""
SET LOCAL lock_timeout = {WITHDRAW_LOCK_MILLISECONDS};
WITH found AS (
    SELECT bot_id, chat_id, id FROM outbox
    WHERE message_id = ANY(%s::uuid[]) AND status = 'queued' AND attempts = 0
), locked AS (
    SELECT bot_id, chat_id, done, CASE WHEN claim IS NOT NULL THEN head END AS in_hand FROM lane
    WHERE (bot_id, chat_id) IN (SELECT bot_id, chat_id FROM found) ORDER BY bot_id, chat_id FOR UPDATE
), gone AS (
    DELETE FROM outbox o USING found f JOIN locked l USING (bot_id, chat_id)
    WHERE o.bot_id = f.bot_id AND o.chat_id = f.chat_id AND o.id = f.id
        AND f.id > l.done AND f.id IS DISTINCT FROM l.in_hand
    RETURNING o.bot_id, o.chat_id, o.message_id
), freed AS (
    UPDATE lane l SET pending = l.pending - g.n
    FROM (SELECT bot_id, chat_id, count(*) AS n FROM gone GROUP BY bot_id, chat_id) g
    WHERE l.bot_id = g.bot_id AND l.chat_id = g.chat_id
)
SELECT message_id::text FROM gone"""


def withdraw(connection: Connection, message_ids: list[str]) -> list[str]:
    """Delete messages whose ids nobody was given, unless a worker has taken them; returns the ids of those that are
    gone. Not for messages with an idempotency key, which may have given their id to somebody meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute(_WITHDRAW, (message_ids,))
        return sorted(row[0] for row in cursor.fetchall())


def _earlier(connection: Connection, entries: list[Entry]) -> dict[tuple[str, str], Earlier]:
    with connection.cursor() as cursor:
        cursor.execute(_EARLIER, ([e.company_id for e in entries], [e.idempotency_key for e in entries]))
        return {(company, key): Earlier(digest, message_id) for company, key, digest, message_id in cursor.fetchall()}


def _outgoing(
    number: int, message_id: str, bot: int, chat: str, kind: str, payload: str, attempts: int, provider_id: str | None,
    outage: str | None,
) -> Outgoing:  # fmt: skip
    return Outgoing(number, message_id, bot, chat, kind, orjson.loads(payload), attempts, provider_id, outage)


@dataclass(frozen=True, slots=True)
class Outbox:
    """One worker's view of the outbox: it claims under its own name, at its channel's pace."""

    process: str  # the channel: meta
    worker: str  # <host>/<instance>/<boot>
    rate: float  # messages a second for each bot that sets none of its own
    lease: float  # seconds
    media_base: str = ""  # what the links to our copies of media begin with
    bot_id: int | None = None  # the one bot that it serves; None: every bot of the channel

    def exchange(
        self,
        connection: Connection,
        results: list[Result],
        limit: int,
        in_hand: Mapping[int, int] | None = None,
    ) -> list[Outgoing]:
        """Record what became of claimed messages and claim up to `limit` more, in one transaction and round trip.

        `in_hand`: how many messages each number, by its id, has in hand already. With it, no number gets more than
        leaves half as much free: however many providers hang, some room is left for the next.
        """
        steps: list[tuple[Statement, dict[str, Any]]] = []
        if results:
            rows = orjson.dumps([asdict(result) for result in results]).decode()
            steps.append((_RECORD_RESULTS, {"results": rows} | self._history))
            if any(result.status is Status.UNKNOWN for result in results):
                steps.append((_NOTE_UNKNOWN_RESULTS, {"results": rows}))
        if limit:
            held = orjson.dumps([{"bot_id": bot_id, "held": count} for bot_id, count in (in_hand or {}).items()])
            room = 3 * limit if in_hand is None else 2 * limit
            pace = {"rate": self.rate, "lease": self.lease, "in_hand": held.decode(), "room": room}
            who = {"process": self.process, "bot": self.bot_id, "worker": self.worker, "limit": limit}
            steps.append((_CLAIM_DUE, who | pace))
        found = run(connection, *steps) if steps else []
        return [_outgoing(*row) for row in found] if limit else []

    @property
    def _history(self) -> dict[str, str]:
        return {"process": self.process, "media_base": self.media_base}

    def renew(self, connection: Connection) -> None:
        """Begin the lease of everything in this worker's hand anew."""
        with connection.cursor() as cursor:
            cursor.execute(_RENEW, (self.lease, self.worker))

    def claim(self, connection: Connection, limit: int) -> list[Outgoing]:
        """Take up to `limit` messages: the oldest of each due chat."""
        return self.exchange(connection, [], limit)

    def record(self, connection: Connection, results: list[Result]) -> None:
        """Write down what became of claimed messages and free their chats."""
        self.exchange(connection, results, 0)

    def hold_bots(self, connection: Connection, holds: list[Hold]) -> None:
        """Hold numbers and accounts, in one transaction; one that needs an operator raises an event."""
        with transaction(connection):
            hold(connection, holds)

    def has_due(self, connection: Connection) -> bool:
        """Whether any chat of the channel could be served now."""
        with connection.cursor() as cursor:
            cursor.execute(_DUE, {"process": self.process, "bot": self.bot_id})
            return bool((cursor.fetchone() or (False,))[0])


def hold(connection: Connection, holds: list[Hold]) -> None:
    """Hold numbers and accounts, within the caller's transaction."""
    values = {"holds": orjson.dumps([asdict(each) for each in holds]).decode(), "slow": SLOW_SECONDS}
    with connection.cursor() as cursor:
        cursor.execute(f"{_TELL_HELD};{_HOLD}", values | {"slowest": SLOWEST})


def claimed_by(connection: Connection, worker_prefix: str) -> list[Abandoned]:
    """What the workers whose name begins so have in hand."""
    with connection.cursor() as cursor:
        cursor.execute(_CLAIMED_BY, (worker_prefix,))
        return [Abandoned(*row) for row in cursor.fetchall()]


def expired(connection: Connection, process: str) -> list[Abandoned]:
    """What is claimed of a channel's messages under a lease that ran out."""
    with connection.cursor() as cursor:
        cursor.execute(_EXPIRED, (process,))
        return [Abandoned(*row) for row in cursor.fetchall()]


def claimed_of(connection: Connection, bot_id: int, worker: str) -> list[Abandoned]:
    """What others than this worker have in hand of a bot's messages."""
    with connection.cursor() as cursor:
        cursor.execute(_CLAIMED_OF, (bot_id, worker))
        return [Abandoned(*row) for row in cursor.fetchall()]


def reserve(connection: Connection, message: Outgoing, key: str | None) -> None:
    """Write down under which key a message is about to be sent, so that its chat can be asked for it; None: none."""
    with connection.cursor() as cursor:
        values = {"bot": message.bot_id, "chat": message.chat_id, "id": message.id, "message": message.message_id}
        cursor.execute(_RESERVE, values | {"key": key})


_OUTCOMES = """
SELECT o.message_id::text,
       CASE WHEN l.head = o.id AND o.status <= 'sending' THEN 'sending'
            WHEN o.status = 'queued' AND p.held_until = 'infinity' THEN 'waiting' ELSE o.status::text END,
       o.provider_id, o.error_code, o.error
FROM outbox o JOIN lane l USING (bot_id, chat_id) LEFT JOIN bot_pace p USING (bot_id)
WHERE o.message_id = ANY(%s::uuid[])"""


class Outcome(NamedTuple):
    """A message's status now, its provider's id, and the code and reason of its last error."""

    status: Status
    provider_id: str | None
    code: str | None
    error: str | None
    hold: dict[str, Any] | None = None  # what holds its number, as callers see it; filled in where it is shown


def outcomes_of(connection: Connection, message_ids: Sequence[str]) -> dict[str, Outcome]:
    """What has become of each of these messages so far."""
    with connection.cursor() as cursor:
        cursor.execute(_OUTCOMES, (list(message_ids),))
        return {message_id: Outcome(Status(status), *more) for message_id, status, *more in cursor.fetchall()}
