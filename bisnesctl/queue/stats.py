"""How many messages of each queue wait, are in hand, were sent and failed.

The numbers come from the lanes, one row for each chat, and from the few messages that failed or are unknown. The
messages themselves are looked at only where a chat's messages were never counted.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import groupby

from psycopg2 import errors as refusals

from bisnesctl.database.postgres import Connection, query
from bisnesctl.queue.lane_sql import FINISHED

#: Chats whose messages are counted in one transaction.
CHATS_PER_TRANSACTION = 2000
#: The suffix of the former system's names of the queues.
QUEUE_SUFFIX = "-messages"

_UNCOUNTED = f"""
SELECT bot_id, chat_id FROM lane WHERE accepted IS NULL
ORDER BY bot_id, chat_id LIMIT {CHATS_PER_TRANSACTION} FOR UPDATE SKIP LOCKED"""
# Another statement than the one that locks, so that it sees what was accepted before the lock.
_COUNT = """
UPDATE lane l SET accepted = (SELECT count(*) FROM outbox o WHERE o.bot_id = l.bot_id AND o.chat_id = l.chat_id)
FROM unnest(%s::int[], %s::text[]) AS chosen (bot_id, chat_id)
WHERE l.bot_id = chosen.bot_id AND l.chat_id = chosen.chat_id"""

#: Whether a row `p` of bot_pace says that nothing of its bot may leave now.
HELD = "COALESCE(p.held_until > now() OR p.paused_until > now(), false)"

_STATS = f"""
WITH bot AS (
    SELECT c.id, c.company_id, c.phone_index, c.process_name, {HELD} AS held
    FROM phone_configs c LEFT JOIN bot_pace p ON p.bot_id = c.id
    WHERE (%(company)s IS NULL OR c.company_id = %(company)s) AND (%(phone)s IS NULL OR c.phone_index = %(phone)s)
), counted AS (
    SELECT l.bot_id, sum(l.pending) AS pending, count(*) FILTER (WHERE l.claim IS NOT NULL) AS active,
           count(*) FILTER (WHERE l.claim IS NULL AND l.pending > 0 AND l.due > now()) AS later,
           sum(COALESCE(l.accepted, (
               SELECT count(*) FROM outbox o WHERE o.bot_id = l.bot_id AND o.chat_id = l.chat_id))) AS accepted
    FROM lane l WHERE l.bot_id IN (SELECT id FROM bot) GROUP BY l.bot_id
), failed AS (
    SELECT bot_id, count(*) AS n FROM failed_message WHERE bot_id IN (SELECT id FROM bot) GROUP BY bot_id
), unknown AS (
    SELECT o.bot_id, count(*) AS n FROM unknown_message u JOIN outbox o USING (message_id)
    WHERE o.status = 'unknown' GROUP BY o.bot_id
), oldest AS (
    SELECT l.bot_id, extract(epoch FROM now() - min(f.accepted_at))::float AS age
    FROM lane l CROSS JOIN LATERAL (
        SELECT o.accepted_at FROM outbox o WHERE o.bot_id = l.bot_id AND o.chat_id = l.chat_id
            AND o.id > {FINISHED}
            AND o.status <= 'sending' AND (l.claim IS NULL OR o.id <> l.head)
        ORDER BY o.id LIMIT 1) f
    WHERE l.pending > 0 AND l.bot_id IN (SELECT id FROM bot) GROUP BY l.bot_id
)
SELECT b.company_id, b.phone_index, b.process_name, b.held, COALESCE(c.pending, 0)::int, COALESCE(c.active, 0)::int,
       COALESCE(c.later, 0)::int, COALESCE(c.accepted, 0)::int, COALESCE(f.n, 0)::int, COALESCE(u.n, 0)::int, o.age
FROM bot b LEFT JOIN counted c ON c.bot_id = b.id LEFT JOIN failed f ON f.bot_id = b.id
    LEFT JOIN unknown u ON u.bot_id = b.id LEFT JOIN oldest o ON o.bot_id = b.id
ORDER BY b.process_name, b.company_id, b.phone_index"""


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of messages by state. The names are those of the former system."""

    waiting: int = 0  # for their turn
    active: int = 0  # in the hands of workers
    completed: int = 0  # sent
    failed: int = 0
    delayed: int = 0  # they cannot leave now: their bot is held or paused, or they wait for their next attempt
    total: int = 0
    unknown: int = 0  # they may have been sent
    oldest_seconds: float | None = None  # since the acceptance of the oldest that waits; None: none waits

    @property
    def left(self) -> int:
        """The number of messages that are not finished."""
        return self.waiting + self.active + self.delayed

    def __add__(self, other: "Counts") -> "Counts":
        ages = [each for each in (self.oldest_seconds, other.oldest_seconds) if each is not None]
        names = [each.name for each in fields(self) if each.name != "oldest_seconds"]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Counts(**sums, oldest_seconds=max(ages, default=None))


@dataclass(frozen=True, slots=True)
class BotCounts:
    """The counts of one bot."""

    company: str
    phone: int
    channel: str
    counts: Counts


def of_bots(connection: Connection, company: str | None = None, phone: int | None = None) -> list[BotCounts]:
    """The counts of each bot, or of those of a company, or of the one with this phone."""
    with contextlib.suppress(refusals.ReadOnlySqlTransaction):
        count_chats(connection)
    found = []
    for owner, index, channel, *numbers in query(connection, _STATS, {"company": company, "phone": phone}):
        found.append(BotCounts(owner, index, channel, _counts(*numbers)))
    return found


def by_queue(bots: Iterable[BotCounts]) -> dict[str, Counts]:
    """The counts of each queue, which has the name of its channel, in the form of the former system."""
    ordered = sorted(bots, key=lambda each: each.channel)
    queues = {"meta": Counts(), "wwebjs": Counts()} | {
        channel: sum((each.counts for each in group), Counts())
        for channel, group in groupby(ordered, key=lambda each: each.channel)
    }
    return {f"{channel}{QUEUE_SUFFIX}": counts for channel, counts in sorted(queues.items())}


def count_chats(connection: Connection) -> None:
    """Counts the messages of chats that were never counted, since an earlier version accepted them."""
    while True:
        with connection:
            chats = query(connection, _UNCOUNTED)
            if not chats:
                return
            query(connection, _COUNT, ([bot for bot, _ in chats], [chat for _, chat in chats]))


def _counts(
    held: bool, pending: int, active: int, later: int, accepted: int, failed: int, unknown: int, age: float | None
) -> Counts:
    active = min(active, pending)
    delayed = pending - active if held else later
    completed = max(accepted - pending - failed - unknown, 0)
    total = pending + completed + failed + unknown
    return Counts(pending - active - delayed, active, completed, failed, delayed, total, unknown, age)
