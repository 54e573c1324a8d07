"""The side that serves each bot, and hand-overs from one side to the other.

Without a rollout no bot has an owner, and the programs that run serve all. `introduce` gives every bot one. A hand-over
begins with a drain, in which nobody claims messages of the bot: its owner finishes what it has in hand. Then the other
side owns it. A drain that nobody completes lapses after some seconds, and the owner continues by itself.

The owner's epoch grows with each change, and each claim has the epoch under which it was made. A
message that a former owner has in hand when a drain is completed by force stays its own until its lease is over, and
its chat waits.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from bisnesctl.database.postgres import Connection, query


class Side(StrEnum):
    """The programs of one mode of the deployment."""

    LEGACY = "legacy"
    MULTIPROCESS = "multiprocess"

    @property
    def other(self) -> "Side":
        """The other side."""
        return Side.LEGACY if self is Side.MULTIPROCESS else Side.MULTIPROCESS


@dataclass(frozen=True, slots=True)
class Ownership:
    """The side that serves a bot, and its hand-over."""

    bot_id: int
    company: str
    phone: int
    channel: str
    #: None: the programs that run serve it.
    owner: Side | None
    epoch: int | None
    since: datetime | None
    by: str | None
    #: The side to which it is being handed over; None: it is not.
    next_owner: Side | None
    #: Seconds until the hand-over lapses; 0: it has lapsed, or there is none.
    drain_seconds: float
    #: Messages of the bot that workers have in hand.
    in_hand: int
    #: Messages of the bot that are not sent yet.
    waiting: int

    @property
    def name(self) -> str:
        """The bot's name, as commands accept it."""
        return f"{self.company}/{self.phone}"

    @property
    def draining(self) -> bool:
        """Whether nobody claims its messages now."""
        return self.drain_seconds > 0


_FIND = """
SELECT p.bot_id, c.company_id, c.phone_index, p.process_name, p.owner, p.owner_epoch, p.owner_since, p.owner_by,
       CASE WHEN p.drain_until > now() THEN p.next_owner END,
       GREATEST(extract(epoch FROM NULLIF(p.drain_until, '-infinity') - now()), 0)::float,
       COALESCE(l.in_hand, 0)::int, COALESCE(l.waiting, 0)::int
FROM bot_pace p JOIN phone_configs c ON c.id = p.bot_id LEFT JOIN (
    SELECT bot_id, count(*) FILTER (WHERE claim IS NOT NULL) AS in_hand, sum(pending) AS waiting
    FROM lane WHERE pending > 0 GROUP BY bot_id) l USING (bot_id)
WHERE %(bots)s IS NULL OR p.bot_id = ANY(%(bots)s)
ORDER BY c.company_id, c.phone_index"""
_IN_USE = "SELECT EXISTS (SELECT FROM new_bot_owner)"
_LOCK_ALL = "SELECT FROM bot_pace WHERE owner IS NULL ORDER BY bot_id FOR UPDATE"
_INTRODUCE = "UPDATE bot_pace SET owner = %(side)s, owner_by = %(by)s WHERE owner IS NULL"
_NEW_BOTS = """
INSERT INTO new_bot_owner (process_name, owner) SELECT unnest(%(channels)s), %(side)s
ON CONFLICT (process_name) DO UPDATE SET owner = excluded.owner WHERE %(change)s"""
_LOCK = "SELECT FROM bot_pace WHERE bot_id = ANY(%(bots)s) ORDER BY bot_id FOR UPDATE"
_DRAIN = """
UPDATE bot_pace SET next_owner = %(to)s, drain_until = now() + %(seconds)s * interval '1 second'
WHERE bot_id = ANY(%(bots)s) AND owner <> %(to)s
    AND NOT (next_owner IS NOT DISTINCT FROM %(to)s AND drain_until > now())
RETURNING bot_id"""
# The messages that were in hand when the drain began are finished, or they are left to their leases.
_COMPLETE = """
UPDATE bot_pace p SET owner = next_owner, owner_by = %(by)s, next_owner = NULL, drain_until = '-infinity'
WHERE bot_id = ANY(%(bots)s) AND next_owner = %(to)s AND drain_until > now()
    AND (%(force)s OR NOT EXISTS (SELECT FROM lane l WHERE l.bot_id = p.bot_id AND l.claim IS NOT NULL))
RETURNING bot_id"""
_GIVE_UP = """
UPDATE bot_pace SET next_owner = NULL, drain_until = '-infinity'
WHERE bot_id = ANY(%(bots)s) AND (next_owner IS NOT NULL OR drain_until > now()) RETURNING bot_id"""

#: The channels whose bots have owners.
CHANNELS = ("meta", "wwebjs")


def find(connection: Connection, bots: Collection[int] | None = None) -> list[Ownership]:
    """The owners of these bots, or of all, in the order of their names."""
    rows = query(connection, _FIND, {"bots": None if bots is None else sorted(bots)})
    return [_ownership(*row) for row in rows]


def _ownership(
    bot_id: int, company: str, phone: int, channel: str, owner: str | None, epoch: int | None, since: datetime | None,
    by: str | None, next_owner: str | None, *counts: Any,
) -> Ownership:  # fmt: skip
    return Ownership(
        bot_id, company, phone, channel, Side(owner) if owner else None, epoch, since, by,
        Side(next_owner) if next_owner else None, *counts,
    )  # fmt: skip


def is_in_use(connection: Connection) -> bool:
    """Whether bots have owners."""
    return bool(query(connection, _IN_USE)[0][0])


def introduce(connection: Connection, side: Side, by: str) -> None:
    """Every bot without an owner belongs to this side from now on, and so does one that is added."""
    with connection:
        query(connection, _NEW_BOTS, {"channels": list(CHANNELS), "side": side, "change": False})
        query(connection, _LOCK_ALL)
        query(connection, _INTRODUCE, {"side": side, "by": by})


def set_new_bots(connection: Connection, channels: Sequence[str], side: Side) -> None:
    """Bots that are added to these channels belong to this side."""
    query(connection, _NEW_BOTS, {"channels": list(channels), "side": side, "change": True})


def drain(connection: Connection, bots: Collection[int], to: Side, seconds: float) -> set[int]:
    """Begins the hand-over of bots that this side does not own: nobody claims their messages once this returns.

    It lapses after `seconds`. Returns the bots whose drain began now.
    """
    values = {"bots": sorted(bots), "to": to, "seconds": seconds}
    with connection:
        query(connection, _LOCK, values)
        return {row[0] for row in query(connection, _DRAIN, values)}


def complete(connection: Connection, bots: Collection[int], to: Side, by: str, force: bool = False) -> set[int]:
    """Gives drained bots to their next owner, unless a message of them is in hand; returns the bots that changed.

    `force`: what is in hand is left to its lease, and its chat waits until it is over.
    """
    values = {"bots": sorted(bots), "to": to, "by": by, "force": force}
    with connection:
        query(connection, _LOCK, values)
        return {row[0] for row in query(connection, _COMPLETE, values)}


def give_up(connection: Connection, bots: Collection[int]) -> set[int]:
    """Ends the drains of bots, which stay with their owners; returns those that had one."""
    values = {"bots": sorted(bots)}
    with connection:
        query(connection, _LOCK, values)
        return {row[0] for row in query(connection, _GIVE_UP, values)}
