"""The manager's SQL beside `status_store`: its lead, other machines, memory use, removed bots."""

from dataclasses import dataclass

from bisnesctl.bots import ownership
from bisnesctl.bots.ownership import Side
from bisnesctl.bots.web_sessions import WebSession
from services.connectors.wwebjs.manager.plan import is_elsewhere
from services.connectors.wwebjs.session.bot_lock import LOCK_SPACE
from services.connectors.wwebjs.session.status_store import bot_ids
from services.database.connection import Connection

#: "wamg" as a number, the space of the locks that let one manager per machine lead.
LEAD_LOCK_SPACE = 0x77616D67
#: How long a session is not recycled again.
RECYCLE_PAUSE_SECONDS = 120

_RECYCLED = """
SELECT DISTINCT bot_id FROM wa_command
WHERE command = 'recycle' AND (done_at IS NULL OR done_at > now() - %s * interval '1 second')
    AND created_at > now() - interval '10 minutes'"""
_REMOVED = "SELECT bot_id, company_id, phone_index FROM wa_removed"
_LOCKED = """
SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = %s::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_ALIVE = """
SELECT DISTINCT host FROM process_instances
WHERE process_name = 'wwebjs' AND host = ANY (%s) AND last_heartbeat > now() - %s * interval '1 second'"""
_OF_OTHERS = "SELECT bot_id FROM bot_pace WHERE process_name = 'wwebjs' AND owner <> %s"
_WITH_QUEUE = "SELECT DISTINCT bot_id FROM lane WHERE bot_id = ANY (%s) AND pending > 0"


@dataclass(frozen=True, slots=True)
class Activity:
    """The facts that decide which session's browser is renewed first."""

    recycled: frozenset[int]  # bots whose browser is about to be renewed, or just was
    busy: frozenset[int]  # bots with messages in the queue


@dataclass(frozen=True, slots=True)
class Removed:
    """A removed bot, whose profile may still exist."""

    bot_id: int
    company: str
    phone: int


def take_lead(connection: Connection, host: str, side: Side) -> bool:
    """Whether this connection leads on that machine, until it is closed. With owners, each side has a lead."""
    name = f"{host}/{side}" if ownership.is_in_use(connection) else host
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (LEAD_LOCK_SPACE, name))
        return bool(cursor.fetchone()[0])  # type: ignore[index]


def of_side(connection: Connection, sessions: list[WebSession], side: Side) -> list[WebSession]:
    """The sessions of the bots that this side owns, and of those without an owner."""
    others = set(bot_ids(connection, _OF_OTHERS, (side,)))
    return [each for each in sessions if each.bot_id not in others]


def elsewhere(connection: Connection, sessions: list[WebSession], here: str, max_age: float) -> set[int]:
    """The bots whose sessions belong to another machine. `max_age`: how many seconds a heartbeat counts."""
    others = [each.host for each in sessions if each.host not in (None, here)]
    if not others:
        return set()
    locked = set(bot_ids(connection, _LOCKED, (LOCK_SPACE,)))
    with connection.cursor() as cursor:
        cursor.execute(_ALIVE, (others, max_age))
        hosts = {host for (host,) in cursor.fetchall()}
    return {each.bot_id for each in sessions if is_elsewhere(each, here, locked, hosts)}


def activity(connection: Connection, bots: list[int]) -> Activity:
    """The activity of these bots."""
    recycled = bot_ids(connection, _RECYCLED, (RECYCLE_PAUSE_SECONDS,))
    return Activity(frozenset(recycled), frozenset(bot_ids(connection, _WITH_QUEUE, (bots,))))


def removed(connection: Connection) -> list[Removed]:
    """The bots whose profiles are to be deleted."""
    with connection.cursor() as cursor:
        cursor.execute(_REMOVED)
        return [Removed(*row) for row in cursor.fetchall()]


def forget(connection: Connection, bot_id: int) -> None:
    """The profile of a removed bot is deleted."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM wa_removed WHERE bot_id = %s", (bot_id,))
