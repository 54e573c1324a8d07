"""The figures of both sides of a rollout since a step began: each bot's messages, its trouble, its connection."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from bisnesctl.database.postgres import Connection, query
from bisnesctl.rollout import outcomes
from bisnesctl.rollout.outcomes import BotOutcomes, Span, TestChats
from bisnesctl.rollout.records import Alarm, BotRecord, Comparison, Outcomes, total

#: Hours before its move that a bot is compared with.
PAST_HOURS = 24
#: Messages of all bots before their moves, the newest ones, at most.
PAST_MESSAGES = 20_000

# A paused bot is in trouble, but not because of the rollout.
_BOTS = """
SELECT c.id, c.company_id || '/' || c.phone_index, p.paused_until > now(), p.paused_by,
       CASE WHEN p.held_until = 'infinity' OR p.hold_code IS NOT NULL AND p.held_until > now()
           THEN COALESCE(p.held_reason, 'held') END, COALESCE(p.held_at, now()) >= %(since)s,
       b.reason, b.since >= %(since)s, c.process_name <> 'wwebjs' OR COALESCE(s.state, 'STOPPED') = 'WORKING'
FROM phone_configs c LEFT JOIN bot_pace p ON p.bot_id = c.id LEFT JOIN wa_session s ON s.bot_id = c.id
    LEFT JOIN wa_block b ON b.bot_id = c.id AND b.until > now()
WHERE c.id = ANY(%(bots)s) ORDER BY c.company_id, c.phone_index"""

_RESTARTS = """
SELECT count(*)::int FROM process_events
WHERE timestamp >= %(since)s AND event_type = 'process_restarting' AND event_data ->> 'instance' = ANY(%(instances)s)"""

#: Outcomes of bots before their moves, by bot and the moment of the move.
Past = dict[tuple[int, datetime], Outcomes]


@dataclass(frozen=True, slots=True)
class Trial:
    """The bots that are compared, and since when."""

    since: datetime  # when the step began
    moved: Mapping[int, datetime]  # when each of them was moved
    unmoved: Collection[int]

    @property
    def bots(self) -> dict[int, datetime]:
        """All bots, with the end of their past."""
        return {**dict.fromkeys(self.unmoved, self.since), **self.moved}


@dataclass(frozen=True, slots=True)
class SideFigures:
    """One side, as `rollout status` shows it."""

    bots: int = 0
    connected: int = 0
    waiting: int = 0  # messages that were accepted since the step began
    customers: Outcomes = field(default_factory=Outcomes)
    probes: Outcomes = field(default_factory=Outcomes)
    restarts: int = 0  # of its processes

    def __add__(self, other: "SideFigures") -> "SideFigures":
        return SideFigures(
            self.bots + other.bots, self.connected + other.connected, self.waiting + other.waiting,
            self.customers + other.customers, self.probes + other.probes, self.restarts + other.restarts,
        )  # fmt: skip

    @property
    def accepted(self) -> int:
        """Messages of customers that were accepted since the step began."""
        return self.customers.share.whole + self.waiting

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        found = self.customers
        return {
            "bots": self.bots, "connected": self.connected, "restarts": self.restarts, "accepted": self.accepted,
            "waiting": self.waiting, "sent": found.sent, "delivered": found.delivered, "failed": found.failed,
            "errors": dict(found.failures), "p50Seconds": _rounded(found.latency(0.5)),
            "p99Seconds": _rounded(found.latency(0.99)), "probes": self.probes.share.whole,
            "failedProbes": self.probes.failed,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """Both sides."""

    comparison: Comparison
    moved: SideFigures
    unmoved: SideFigures


def measure(
    connection: Connection, trial: Trial, test_chats: TestChats, alarms: Sequence[Alarm] = (), past: Past | None = None
) -> Figures:
    """Both sides' figures since the step began.

    `past`: what is known of the time before, which does not change; it is completed.
    """
    records = _records(connection, trial, test_chats, {} if past is None else past)
    moved = [record for bot, record in records.items() if bot in trial.moved]
    unmoved = [record for bot, record in records.items() if bot not in trial.moved]
    return Figures(Comparison(moved, unmoved, alarms), _side(moved), _side(unmoved))


def with_restarts(
    connection: Connection, side: SideFigures, since: datetime, instances: Collection[str]
) -> SideFigures:
    """The figures of a side, with the restarts of its processes since then."""
    if not instances:
        return side
    ((number,),) = query(connection, _RESTARTS, {"since": since, "instances": list(instances)})
    return replace(side, restarts=number)


def _records(connection: Connection, trial: Trial, test_chats: TestChats, past: Past) -> dict[int, BotRecord]:
    now = outcomes.count(connection, dict.fromkeys(trial.bots, Span(trial.since)), test_chats)
    missing = {bot: end for bot, end in trial.bots.items() if (bot, end) not in past}
    if missing:
        spans = {bot: Span(end - timedelta(hours=PAST_HOURS), end) for bot, end in missing.items()}
        before = outcomes.count(connection, spans, test_chats, PAST_MESSAGES)
        past |= {(bot, end): before.get(bot, BotOutcomes()).customers for bot, end in missing.items()}
    found = {}
    for bot, name, paused, by, held, held_is_new, block, block_is_new, connected in query(
        connection, _BOTS, {"bots": list(trial.bots), "since": trial.since}
    ):
        mine = now.get(bot, BotOutcomes())
        trouble = f"paused by {by}" if paused else held or block or ""
        is_new = not paused and bool(held_is_new if held else block_is_new)
        before_move = past[bot, trial.bots[bot]]
        found[bot] = BotRecord(name, mine.customers, before_move, mine.probes, mine.waiting, trouble, is_new, connected)
    return found


def _side(records: Sequence[BotRecord]) -> SideFigures:
    return SideFigures(
        len(records),
        sum(each.connected and not each.trouble for each in records),
        sum(each.waiting for each in records),
        total(each.now for each in records),
        total(each.probes for each in records),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
