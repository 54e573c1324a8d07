"""The SQL of the event feed: a company's events, one after the other, from a position on.

Events are numbered without gaps in the order of their commits. A reader that asks for those after the last one it has
seen misses none and sees none twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.database.connection import Connection, query, query_value
from services.events.store import Event

#: The prefix of a position's id that is not an event's.
POSITION = "seq_"

# A position is valid while everything after it is kept.
_RESUME = """
SELECT given.seq FROM event_feed f CROSS JOIN LATERAL (
    SELECT CASE WHEN %(seq)s::bigint IS NOT NULL THEN %(seq)s::bigint
                ELSE (SELECT seq FROM event WHERE event_id = %(event)s AND company_id = f.company_id) END AS seq) given
WHERE f.company_id = %(company)s AND given.seq <= f.last_seq AND (given.seq = f.last_seq OR EXISTS (
    SELECT FROM event e WHERE e.company_id = f.company_id AND e.seq = given.seq + 1
        AND e.created_at > now() - %(days)s * interval '1 day'))"""
_OLDEST = """
SELECT COALESCE((SELECT min(seq) - 1 FROM event WHERE company_id = %(company)s
                 AND created_at > now() - %(days)s * interval '1 day'),
                (SELECT last_seq FROM event_feed WHERE company_id = %(company)s), 0)"""
_BY_TIME = """
SELECT COALESCE((SELECT seq - 1 FROM event WHERE company_id = %(company)s AND created_at >= %(since)s
                 ORDER BY seq LIMIT 1), (SELECT last_seq FROM event_feed WHERE company_id = %(company)s), 0)"""
_LAST = "SELECT company_id, last_seq FROM event_feed WHERE company_id = ANY(%s)"
_SEQ = "SELECT seq FROM event WHERE event_id = %s AND company_id = %s"

# Events that are not wanted are skipped without reading their payload.
_READ = """
SELECT seq, event_id, floor(extract(epoch FROM created_at) * 1000)::bigint, name, session, company_id,
       CASE WHEN (%(names)s::text[] IS NULL OR name = ANY(%(names)s)) AND (%(session)s IS NULL OR session = %(session)s)
            THEN payload::text END
FROM event WHERE company_id = %(company)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s"""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The events of a company that a reader wants."""

    company_id: str
    names: Sequence[str] | None = None  # None: all
    session: str | None = None


def last(connection: Connection, companies: Sequence[str]) -> dict[str, int]:
    """The number of the last event of each of the companies that have any kept."""
    return dict(query(connection, _LAST, (list(companies),)))


def resume(connection: Connection, company_id: str, last_id: str, days: int) -> int | None:
    """The number after which a reader continues that has seen the event or position `last_id`.

    None if it is unknown, or if events after it may be deleted; they are kept for `days`.
    """
    digits = last_id.removeprefix(POSITION)
    is_position = digits != last_id and digits.isascii() and digits.isdigit() and len(digits) < 19
    values = {"company": company_id, "seq": int(digits) if is_position else None, "event": last_id, "days": days}
    number: int | None = query_value(connection, _RESUME, values)
    return number


def oldest(connection: Connection, company_id: str, days: int) -> int:
    """The number after which everything is kept."""
    return int(query_value(connection, _OLDEST, {"company": company_id, "days": days}))


def at(connection: Connection, company_id: str, since: datetime) -> int:
    """The number after which everything was raised at `since` or later."""
    return int(query_value(connection, _BY_TIME, {"company": company_id, "since": since}))


def number_of(connection: Connection, company_id: str, event_id: str) -> int | None:
    """The number of an event, if it is kept."""
    number: int | None = query_value(connection, _SEQ, (event_id, company_id))
    return number


def read(connection: Connection, wanted: EventFilter, after: int, limit: int) -> tuple[list[tuple[int, Event]], int]:
    """Look at up to `limit` events after the number `after`.

    Returns those that are wanted with their numbers, in order, and the number of the last one that was looked at.
    """
    names = None if wanted.names is None else list(wanted.names)
    values = {"company": wanted.company_id, "names": names, "session": wanted.session, "after": after, "limit": limit}
    rows = query(connection, _READ, values)
    found = [(row[0], Event(*row[1:])) for row in rows if row[6] is not None]
    return found, rows[-1][0] if rows else after
