"""Outages of providers, and messages whose outcome stays unknown."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bisnesctl import moments
from bisnesctl.database.postgres import Connection, query

# An outage without a failed attempt for minutes is not current: nothing is being sent.
_FIND = """
SELECT c.company_id, c.phone_index, c.process_name, p.outage_code, p.outage_reason,
       extract(epoch FROM p.outage_since)::float, extract(epoch FROM GREATEST(p.held_until, now()) - now())::float,
       (SELECT COALESCE(sum(pending), 0)::int FROM lane WHERE bot_id = c.id) AS waiting
FROM bot_pace p JOIN phone_configs c ON c.id = p.bot_id
WHERE p.outage_reported AND p.outage_seen > now() - interval '5 minutes' AND p.held_until <> 'infinity'
ORDER BY p.outage_since, c.company_id, c.phone_index"""

# Until an operator resolves them.
_UNKNOWN = """
SELECT c.company_id, c.phone_index, count(*)::int
FROM unknown_message u JOIN outbox o USING (message_id) JOIN phone_configs c ON c.id = o.bot_id
WHERE u.since < now() - interval '5 minutes' AND o.status = 'unknown' AND u.resolution IS NULL
GROUP BY c.company_id, c.phone_index"""


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage: a bot cannot send because of its provider, and how many other bots have the same cause."""

    company: str
    phone: int
    process: str
    code: str
    reason: str
    since: float  # in seconds since the epoch
    next_attempt: float  # in seconds from now
    waiting: int  # messages
    others: int = 0  # other bots

    def __str__(self) -> str:
        soon = f"in {self.next_attempt:.0f} s" if self.next_attempt >= 1 else "now"
        messages = "1 message waits" if self.waiting == 1 else f"{self.waiting} messages wait"
        since = moments.clock(self.since)
        return f"nothing has been sent since {since}: {self.code}: {self.reason}; next attempt {soon}; {messages}"


def find(connection: Connection) -> list[Outage]:
    """The current outages that make messages wait; outages of several bots with the same cause count as one."""
    return _grouped(found for row in query(connection, _FIND) if (found := Outage(*row)).waiting)


def unknown(connection: Connection) -> list[tuple[str, int, int]]:
    """Company, phone and number of messages that have been unknown for minutes."""
    return [(company, phone, count) for company, phone, count in query(connection, _UNKNOWN)]


def _grouped(outages: Iterable[Outage]) -> list[Outage]:
    found: dict[tuple[str, str], Outage] = {}
    for each in outages:
        first = found.get((each.process, each.code))
        found[each.process, each.code] = each if first is None else _merged(first, each)
    return list(found.values())


def _merged(first: Outage, other: Outage) -> Outage:
    soon = min(first.next_attempt, other.next_attempt)
    return replace(first, next_attempt=soon, waiting=first.waiting + other.waiting, others=first.others + 1)
