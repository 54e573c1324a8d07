"""The manager's SQL: which sessions there are to be, and the block-list."""

from dataclasses import dataclass

from bisnesctl.bots.web_sessions import WebSession
from services.connectors.wwebjs.manager.plan import is_elsewhere
from services.connectors.wwebjs.session.bot_lock import LOCK_SPACE
from services.connectors.wwebjs.session.status_sql import announce
from services.connectors.wwebjs.states.failed_starts import is_blocked
from services.database.connection import Connection, transaction

#: Minutes for which a session is blocked whose starts fail.
BLOCK_MINUTES = 60
#: One manager a machine looks after the sessions there: "wamg" as a number, in front of the machine's.
LOCK = 0x77616D67
#: Seconds after a recycling during which a session is not told to recycle again.
REST = 120

# Nothing is written where nothing is due: every write of these tables is announced, to us as well.
_MISSING = """
SELECT id FROM phone_configs c
WHERE process_name = 'wwebjs' AND NOT EXISTS (SELECT FROM wa_session WHERE bot_id = c.id)"""
_ADOPT = "INSERT INTO wa_session (bot_id) SELECT unnest(%s) ON CONFLICT DO NOTHING"

_EXPIRED = "SELECT bot_id FROM wa_block WHERE until <= now()"
_LIFT = """
WITH lifted AS (DELETE FROM wa_block WHERE bot_id = ANY (%(bots)s) AND until <= now() RETURNING bot_id, reason),
noted AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT 'wwebjs', 'session_unblocked', jsonb_build_object('company', company_id, 'phoneIndex', phone_index,
        'reason', 'the block ended: ' || reason), 'info'
    FROM lifted JOIN phone_configs ON id = bot_id
)
UPDATE wa_session s SET failed_starts = 0, started_at = NULL FROM lifted l WHERE s.bot_id = l.bot_id"""

_FAILING = """
SELECT bot_id, failed_starts, state FROM wa_session s
WHERE failed_starts > 0 AND NOT EXISTS (SELECT FROM wa_block WHERE bot_id = s.bot_id)"""
_BLOCK = """
WITH failing AS (
    SELECT bot_id, failed_starts || ' starts in a row failed' || COALESCE(', the last one: ' || reason, '') AS reason
    FROM wa_session WHERE bot_id = ANY (%(bots)s)
), blocked AS (
    INSERT INTO wa_block (bot_id, kind, reason, until)
    SELECT bot_id, 'failed_starts', reason, now() + %(minutes)s * interval '1 minute' FROM failing
    ON CONFLICT DO NOTHING RETURNING bot_id, reason, until
)
INSERT INTO process_events (process_name, event_type, event_data, severity)
SELECT 'wwebjs', 'session_blocked', jsonb_build_object('company', company_id, 'phoneIndex', phone_index,
    'reason', reason, 'until', until), 'error'
FROM blocked JOIN phone_configs ON id = bot_id"""

_RECYCLED = """
SELECT DISTINCT bot_id FROM wa_command
WHERE command = 'recycle' AND (done_at IS NULL OR done_at > now() - %s * interval '1 second')
    AND created_at > now() - interval '10 minutes'"""
_REMOVED = "SELECT bot_id, company_id, phone_index FROM wa_removed"
_HELD = """
SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = %s::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_LIVING = """
SELECT DISTINCT host FROM process_instances
WHERE process_name = 'wwebjs' AND host = ANY (%s) AND last_heartbeat > now() - %s * interval '1 second'"""
_BUSY = "SELECT DISTINCT bot_id FROM lane WHERE bot_id = ANY (%s) AND pending > 0"


@dataclass(frozen=True, slots=True)
class Use:
    """What tells which session's browser is renewed first."""

    recycled: frozenset[int]  # bots whose session was told to, and is about to or just did
    busy: frozenset[int]  # bots for which messages wait


@dataclass(frozen=True, slots=True)
class Removed:
    """A number that is no more, of which a profile may be there."""

    bot_id: int
    company: str
    phone: int


def take_lead(connection: Connection, host: str) -> bool:
    """Whether this connection is the manager's of that machine, for as long as it lasts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (LOCK, host))
        return bool(cursor.fetchone()[0])  # type: ignore[index]


def elsewhere(connection: Connection, sessions: list[WebSession], here: str, max_age: float) -> set[int]:
    """The bots whose sessions are another machine's; `max_age`: seconds for which a heartbeat counts."""
    others = [each.host for each in sessions if each.host not in (None, here)]
    if not others:
        return set()
    held = set(_bots(connection, _HELD, (LOCK_SPACE,)))
    with connection.cursor() as cursor:
        cursor.execute(_LIVING, (others, max_age))
        hosts = {host for (host,) in cursor.fetchall()}
    return {each.bot_id for each in sessions if is_elsewhere(each, here, held, hosts)}


def adopt(connection: Connection) -> None:
    """Give every WhatsApp Web number its row; a new one is wanted."""
    bots = _bots(connection, _MISSING)
    if bots:
        with connection.cursor() as cursor:
            cursor.execute(_ADOPT, (bots,))


def lift_blocks(connection: Connection) -> list[int]:
    """End the blocks whose time is over; returns whose they were."""
    bots = _bots(connection, _EXPIRED)
    if bots:
        with transaction(connection) as cursor:
            cursor.execute(_LIFT, {"bots": bots})
    return bots


def block_failing(connection: Connection) -> list[int]:
    """Block the sessions that fail to start again and again; returns whose they are."""
    with connection.cursor() as cursor:
        cursor.execute(_FAILING)
        bots = [bot for bot, failed, state in cursor.fetchall() if is_blocked(failed, state)]
    if bots:
        with transaction(connection) as cursor:
            cursor.execute(_BLOCK, {"bots": bots, "minutes": BLOCK_MINUTES})
    return bots


def show(connection: Connection, session: WebSession, state: str, reason: str) -> None:
    """Tell everybody how a session is whose process does not run: STOPPED or FAILED."""
    announce(connection, session.bot_id, state, reason, alive=False)


def use(connection: Connection, bots: list[int]) -> Use:
    """What these bots are at."""
    recycled, busy = _bots(connection, _RECYCLED, (REST,)), _bots(connection, _BUSY, (bots,))
    return Use(frozenset(recycled), frozenset(busy))


def removed(connection: Connection) -> list[Removed]:
    """The numbers whose profiles are to be removed."""
    with connection.cursor() as cursor:
        cursor.execute(_REMOVED)
        return [Removed(*row) for row in cursor.fetchall()]


def forget(connection: Connection, bot_id: int) -> None:
    """Nothing of a removed number is left."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM wa_removed WHERE bot_id = %s", (bot_id,))


def _bots(connection: Connection, statement: str, values: tuple[object, ...] = ()) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [bot for (bot,) in cursor.fetchall()]
