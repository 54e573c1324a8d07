"""The outcomes of bots' messages, counted by the database from the outbox.

Messages are found by their ids, which are UUIDs of version 7 and so in the order of acceptance, as the clean-up of old
rows finds them. Receipts and cancelled messages are left out.

- The latency of a message is the time from its acceptance to the provider's answer. That of a message that was accepted
  while much of its bot waited says how much there was to send, so it is not counted.
- A message that waits is overdue after some time, unless its bot has much to send and sends.
- A message that may have been sent is a failure after some time, unless it is settled.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bisnesctl.database.postgres import Connection, query
from bisnesctl.queue.message_changes import CANCELLED
from bisnesctl.rollout.records import (
    LATENCY_FLOOR_SECONDS,
    OVERDUE,
    STEPS_PER_DOUBLING,
    UNKNOWN,
    Outcomes,
)

#: Seconds after which a message that waits is overdue.
OVERDUE_SECONDS = 120
#: Seconds after which a message that may have been sent counts as a failure.
UNKNOWN_SECONDS = 60
#: Seconds after the begin of a step whose latencies are not counted: the programs of a side may just have started.
WARM_UP_SECONDS = 10
#: Seconds of its rate that a bot may have waiting before latencies say how much there is to send.
BACKLOG_SECONDS = 5
#: Messages a second of a bot without a rate of its own, for that purpose.
USUAL_RATE = 10
#: Seconds by which the clocks of machines that make ids may be ahead of the database's.
CLOCK_SLACK_SECONDS = 60
#: Messages of all bots that are counted, the newest ones, at most.
MAX_MESSAGES = 200_000

_STEPS_PER_UNIT = STEPS_PER_DOUBLING / math.log(2)  # of the natural logarithm
_COUNT = f"""
WITH chosen AS (
    SELECT * FROM unnest(%(bots)s::int[], %(begins)s::timestamptz[], %(ends)s::timestamptz[])
        AS c (bot_id, begins, ends)
), found AS MATERIALIZED (
    SELECT o.bot_id, o.id, o.status, o.error_code, o.accepted_at, o.updated_at, c.ends, s.at AS sent_at,
           c.ends <> 'infinity' OR o.accepted_at >= c.begins + interval '{WARM_UP_SECONDS} seconds' AS is_timed,
           o.is_probe OR EXISTS (SELECT FROM unnest(%(test_bots)s::int[], %(test_chats)s::text[]) AS t (bot_id, chat_id)
               WHERE t.bot_id = o.bot_id AND t.chat_id = o.chat_id) AS is_probe,
           COALESCE(s.at, CASE WHEN o.status >= 'unknown' THEN o.updated_at END) AS ended_at
    FROM (
        SELECT * FROM outbox WHERE message_id >= %(first)s::uuid AND bot_id = ANY(%(bots)s::int[])
            AND kind <> 'read' AND error_code IS DISTINCT FROM '{CANCELLED}'
        ORDER BY message_id DESC LIMIT %(limit)s
    ) o JOIN chosen c ON c.bot_id = o.bot_id AND o.accepted_at >= c.begins AND o.accepted_at < c.ends
    LEFT JOIN LATERAL (
        SELECT (step ->> 'at')::timestamptz AS at FROM jsonb_array_elements(o.timeline) step
        WHERE step ->> 'status' = 'sent' AND step ? 'attempt' LIMIT 1) s ON true
), depths AS (
    SELECT id, sum(change) OVER (PARTITION BY bot_id ORDER BY at, change, id ROWS UNBOUNDED PRECEDING) AS depth
    FROM (SELECT bot_id, id, accepted_at AS at, 1 AS change FROM found
        UNION ALL SELECT bot_id, NULL, ended_at, -1 FROM found WHERE ended_at IS NOT NULL) moments
), bots AS (
    SELECT bot_id, COALESCE(p.rate, {USUAL_RATE}) * {BACKLOG_SECONDS} AS backlog,
           COALESCE(max(f.ended_at) > now() - interval '{OVERDUE_SECONDS // 2} seconds', false) AS sends
    FROM found f LEFT JOIN bot_pace p USING (bot_id) GROUP BY bot_id, p.rate
), judged AS (
    SELECT f.bot_id, f.is_probe, f.status IN ('delivered', 'read') AS delivered, CASE
            WHEN f.status IN ('sent', 'delivered', 'read') THEN 'sent'
            WHEN f.status = 'failed' THEN 'failed ' || COALESCE(f.error_code, '')
            WHEN f.status = 'unknown' AND f.updated_at < now() - interval '{UNKNOWN_SECONDS} seconds'
                THEN 'failed {UNKNOWN}'
            WHEN f.status < 'unknown' AND f.accepted_at < now() - interval '{OVERDUE_SECONDS} seconds'
                AND (d.depth <= b.backlog OR NOT b.sends) THEN 'failed {OVERDUE}'
            ELSE 'waiting' END AS outcome,
        CASE WHEN f.is_timed AND f.sent_at IS NOT NULL AND d.depth <= b.backlog THEN round({_STEPS_PER_UNIT}
            * ln(GREATEST(extract(epoch FROM f.sent_at - f.accepted_at)::float, {LATENCY_FLOOR_SECONDS})))::int END
            AS latency
    FROM found f JOIN depths d USING (id) JOIN bots b ON b.bot_id = f.bot_id
    WHERE f.ends = 'infinity' OR f.ended_at < f.ends
)
SELECT bot_id, is_probe, outcome, delivered, latency, count(*)::int FROM judged GROUP BY 1, 2, 3, 4, 5"""


@dataclass(frozen=True, slots=True)
class Span:
    """The messages of a bot that were accepted in some time. With an end, they must have ended by then as well."""

    begins: datetime
    ends: datetime | None = None


@dataclass(frozen=True, slots=True)
class BotOutcomes:
    """The messages of one bot."""

    customers: Outcomes = field(default_factory=Outcomes)
    probes: Outcomes = field(default_factory=Outcomes)
    waiting: int = 0  # of customers


#: Bots and chats that nobody but an operator reads.
TestChats = Collection[tuple[int, str]]


def count(
    connection: Connection, spans: Mapping[int, Span], test_chats: TestChats, limit: int = MAX_MESSAGES
) -> dict[int, BotOutcomes]:
    """The outcomes of the messages of each bot; a bot without messages is missing. `limit`: of all bots together."""
    if not spans:
        return {}
    first = min(each.begins for each in spans.values()).timestamp() - CLOCK_SLACK_SECONDS
    values = {
        "bots": list(spans), "begins": [each.begins for each in spans.values()], "limit": limit,
        "ends": [each.ends.isoformat() if each.ends else "infinity" for each in spans.values()],
        "first": f"{max(int(first * 1000), 0):012x}" + "0" * 20,
        "test_bots": [bot for bot, _ in test_chats], "test_chats": [chat for _, chat in test_chats],
    }  # fmt: skip
    counters: dict[int, tuple[_Counter, _Counter]] = {}
    for bot, is_probe, outcome, delivered, latency, number in query(connection, _COUNT, values):
        counter = counters.setdefault(bot, (_Counter(), _Counter()))[is_probe]
        counter.add(outcome, delivered, latency, number)
    return {
        bot: BotOutcomes(customers.outcomes, probes.outcomes, customers.waiting)
        for bot, (customers, probes) in counters.items()
    }


@dataclass(slots=True)
class _Counter:
    sent: int = 0
    delivered: int = 0
    waiting: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    latencies: dict[int, int] = field(default_factory=dict)

    def add(self, outcome: str, delivered: bool, latency: int | None, number: int) -> None:
        """Counts messages."""
        kind, _, code = outcome.partition(" ")
        if kind == "waiting":
            self.waiting += number
        elif kind == "failed":
            self.failures[code or "without a code"] = self.failures.get(code or "without a code", 0) + number
        else:
            self.sent += number
            self.delivered += number * delivered
            if latency is not None:
                self.latencies[latency] = self.latencies.get(latency, 0) + number

    @property
    def outcomes(self) -> Outcomes:
        """The messages that ended."""
        return Outcomes(self.sent, self.failures, self.latencies, self.delivered)
