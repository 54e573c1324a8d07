"""The published state of sessions: every statement of the services that writes `wa_session` or `wa_block`.

Front-ends of the old system read the state from `phone_status` and `phone_configs`, customers get it as an event, and
the manager is notified of changes through Redis.
"""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from services.connectors.wwebjs.states.failed_starts import StartEvent, count, is_blocked
from services.connectors.wwebjs.states.state_machine import State
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable, transaction
from services.message import Scope
from services.outbox import holds
from services.outbox.outcome_policy import Hold

#: The Redis channel on which sessions publish {"bot", "event", "reason"}.
CHANNEL = "bisnes:sessions"
#: How long a session is blocked after too many failed starts.
FAILED_STARTS_BLOCK_MINUTES = 60

#: The errors of a database that may be available again soon.
UNAVAILABLE = (DatabaseUnavailable, DatabaseError)

log = structlog.get_logger()

#: The old tables' words for a state.
_OLD_STATES = {
    "STOPPED": "disconnected",
    "STARTING": "connecting",
    "SCAN_QR_CODE": "qr",
    "WORKING": "connected",
    "FAILED": "failed",
}

_FAILED_STARTS = "SELECT failed_starts FROM wa_session WHERE bot_id = %s FOR UPDATE"
# Locks event_feed before the session's row, as all other writers do.
_EVENT = """
SELECT raise_events(jsonb_build_array(session_status_event(%(bot)s, %(state)s, %(reason)s)))
WHERE NOT EXISTS (SELECT FROM wa_session WHERE bot_id = %(bot)s AND state = %(state)s)"""
_PUBLISH = """
WITH changed AS (
    UPDATE wa_session SET state = %(state)s, reason = %(reason)s,
        changed_at = CASE WHEN state = %(state)s THEN changed_at ELSE now() END,
        failed_starts = %(failed)s,
        qr = NULL, qr_expires_at = NULL, pairing_code = NULL, pairing_expires_at = NULL,
        own_number = CASE WHEN %(state)s = 'SCAN_QR_CODE' THEN NULL ELSE COALESCE(%(number)s, own_number) END,
        bound_number = COALESCE(bound_number, %(number)s)
    WHERE bot_id = %(bot)s RETURNING bot_id
), bot AS (
    UPDATE phone_configs SET status = %(old)s, updated_at = now(),
        display_phone_number = COALESCE(display_phone_number, %(number)s)
    FROM changed WHERE id = bot_id RETURNING id, company_id, phone_index, connection_type
), updated_status AS (
    UPDATE phone_status p SET status = %(old)s, updated_at = now(),
        last_seen = CASE WHEN %(alive)s THEN now() ELSE p.last_seen END,
        metadata = COALESCE(metadata, '{}') - 'qrCode', phone_number = COALESCE(%(number)s, p.phone_number)
    FROM bot b WHERE p.company_id = b.company_id AND p.phone_index = b.phone_index::text RETURNING p.id
), inserted_status AS (
    INSERT INTO phone_status (company_id, phone_index, status, last_seen, connection_type, phone_number)
    SELECT company_id, phone_index::text, %(old)s, now(), COALESCE(connection_type, 'wwebjs'), %(number)s FROM bot
    WHERE %(alive)s AND NOT EXISTS (SELECT FROM phone_status p WHERE p.company_id = bot.company_id
        AND p.phone_index = bot.phone_index::text)
)
INSERT INTO process_events (process_name, event_type, event_data, severity)
SELECT 'wwebjs', 'session_status', session_status_event(id, %(state)s, %(reason)s), %(severity)s FROM bot"""

_BEGIN = """
INSERT INTO wa_session (bot_id, state, host, pid, started_at)
VALUES (%(bot)s, 'STARTING', %(host)s, %(pid)s, now())
ON CONFLICT (bot_id) DO UPDATE SET host = excluded.host, pid = excluded.pid, started_at = now(), beat_at = NULL"""
_QR = """
WITH shown AS (
    UPDATE wa_session SET qr = %(qr)s, qr_expires_at = now() + %(seconds)s * interval '1 second'
    WHERE bot_id = %(bot)s RETURNING bot_id
)
UPDATE phone_status p SET metadata = COALESCE(metadata, '{}') || jsonb_build_object('qrCode', %(qr)s::text),
    updated_at = now()
FROM phone_configs c JOIN shown ON c.id = bot_id
WHERE p.company_id = c.company_id AND p.phone_index = c.phone_index::text"""
_PAIRING = """
UPDATE wa_session SET pairing_code = %(code)s, pairing_expires_at = now() + %(seconds)s * interval '1 second'
WHERE bot_id = %(bot)s RETURNING pairing_expires_at"""
_HEARTBEAT = """
UPDATE wa_session SET beat_at = CASE WHEN %(works)s THEN now() ELSE beat_at END, memory_mb = %(memory)s,
    versions = versions || %(versions)s::jsonb
WHERE bot_id = %(bot)s"""
_CAUGHT_UP_AT = """
SELECT CASE WHEN COALESCE(caught_up_for = own_number, true) THEN extract(epoch FROM caught_up_at)::float END,
       extract(epoch FROM now())::float
FROM wa_session WHERE bot_id = %(bot)s"""
_CAUGHT_UP = """
UPDATE wa_session SET caught_up_for = own_number, caught_up_at = CASE WHEN COALESCE(caught_up_for = own_number, true)
    THEN GREATEST(caught_up_at, to_timestamp(%(at)s)) ELSE to_timestamp(%(at)s) END
WHERE bot_id = %(bot)s"""
_BLOCKED = "SELECT reason FROM wa_block WHERE bot_id = %s AND until > now()"
_BLOCK = """
INSERT INTO wa_block (bot_id, kind, reason, until) VALUES (%(bot)s, %(kind)s, %(reason)s, 'infinity')
ON CONFLICT (bot_id) DO UPDATE SET kind = excluded.kind, reason = excluded.reason, since = now(), until = 'infinity'"""

# The manager. Every write of these tables is announced, to the manager as well, so it writes only if necessary.
_WITHOUT_SESSION = """
SELECT id FROM phone_configs c
WHERE process_name = 'wwebjs' AND NOT EXISTS (SELECT FROM wa_session WHERE bot_id = c.id)
    AND NOT EXISTS (SELECT FROM former_number WHERE bot_id = c.id AND moved_at IS NULL)"""
# While the former server runs some numbers, it may add others. Those that are added here have a session at once.
_OF_FORMER = """
INSERT INTO former_number (bot_id) SELECT id FROM phone_configs WHERE id = ANY (%s)
    AND EXISTS (SELECT FROM former_number WHERE moved_at IS NULL)
ON CONFLICT DO NOTHING RETURNING bot_id"""
_ADOPT = "INSERT INTO wa_session (bot_id) SELECT unnest(%s::int[]) ON CONFLICT DO NOTHING"
_EXPIRED_BLOCKS = "SELECT bot_id FROM wa_block WHERE until <= now()"
_LIFT_BLOCKS = """
WITH lifted AS (DELETE FROM wa_block WHERE bot_id = ANY (%(bots)s) AND until <= now() RETURNING bot_id, reason),
logged AS (
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT 'wwebjs', 'session_unblocked', jsonb_build_object('company', company_id, 'phoneIndex', phone_index,
        'reason', 'the block ended: ' || reason), 'info'
    FROM lifted JOIN phone_configs ON id = bot_id
)
UPDATE wa_session s SET failed_starts = 0, started_at = NULL FROM lifted l WHERE s.bot_id = l.bot_id"""
_FAILING = """
SELECT bot_id, failed_starts, state FROM wa_session s
WHERE failed_starts > 0 AND NOT EXISTS (SELECT FROM wa_block WHERE bot_id = s.bot_id)"""
_BLOCK_FAILING = """
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


# --- By the session's process or the manager -------------------------------------------------------------------------


def publish_state(
    connection: Connection, bot_id: int, state: str, reason: str | None, *, number: str | None = None, alive: bool,
    start: StartEvent = StartEvent.INTERRUPTED,
) -> None:  # fmt: skip
    """Publish the state of a session. `number`: digits, once it is linked.

    `alive`: whether the session's own process says so, rather than the manager because that process does not run.
    `start`: the consequence for the count of failed starts.
    """
    values = {
        "bot": bot_id, "state": state, "reason": reason, "number": number, "old": _OLD_STATES[state], "alive": alive,
        "severity": "error" if state == "FAILED" else "info",
    }  # fmt: skip
    with transaction(connection) as cursor:
        if state == "WORKING":
            cursor.execute("SELECT release_bot(%s)", (bot_id,))
        cursor.execute(_EVENT, values)
        cursor.execute(_FAILED_STARTS, (bot_id,))
        (failed,) = cursor.fetchone() or (0,)
        cursor.execute(_PUBLISH, values | {"failed": count(failed, start)})


# --- By the session's process -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class StatusStore:
    """The statements for one bot. Every method raises `DatabaseUnavailable` and `DatabaseError`."""

    database: Database
    bot_id: int
    publish: Callable[[str, str], None]  # to a channel of Redis; never raises
    state: State | None = None  # as published last
    reason: str | None = None  # as published last

    def block(self) -> str | None:
        """Why the session must not start; None if it may."""
        row = self._fetch(_BLOCKED, (self.bot_id,))
        return str(row[0]) if row else None

    def begin(self) -> None:
        """A process of the session has started, so the heartbeat of an earlier one no longer counts."""
        self._execute(_BEGIN, {"host": socket.gethostname(), "pid": os.getpid()})

    def change(self, state: State, reason: str | None = None, event: str = "", number: str | None = None) -> None:
        """Publish a state. `event`: the event for the manager; `number`: digits, once it is linked."""
        came_up = state in (State.SCAN_QR_CODE, State.WORKING)
        self._change(state, reason, event, number, StartEvent.CAME_UP if came_up else StartEvent.INTERRUPTED)

    def fail(self, reason: str) -> None:
        """The start of this process has failed, and the process ends."""
        self._change(State.FAILED, reason, "connection_failed", None, StartEvent.FAILED)

    def show_qr(self, text: str, seconds: float) -> None:
        """Show a QR code, which is valid for `seconds`."""
        self._execute(_QR, {"qr": text, "seconds": seconds})

    def show_pairing_code(self, code: str, seconds: float) -> str:
        """Show a pairing code, which is valid for `seconds`; returns its end as ISO 8601."""
        row = self._fetch(_PAIRING, {"bot": self.bot_id, "code": code, "seconds": seconds})
        return row[0].isoformat() if row else ""

    def heartbeat(self, works: bool, memory_mb: float, versions: dict[str, str]) -> None:
        """The process is alive. `works`: whether its page is, too."""
        self._execute(_HEARTBEAT, {"works": works, "memory": memory_mb, "versions": orjson.dumps(versions).decode()})

    def caught_up_at(self) -> tuple[float | None, float] | None:
        """Until when the linked number's messages were stored (None: never), and now, by the database's clock."""
        found: tuple[float | None, float] | None = self._fetch(_CAUGHT_UP_AT, {"bot": self.bot_id})
        return found

    def caught_up(self, at: float) -> None:
        """All messages of the linked number until `at`, in seconds since the epoch, are stored."""
        self._execute(_CAUGHT_UP, {"at": at})

    def give_up(self, kind: str, reason: str, event: str) -> None:
        """The session ends, and is blocked until an operator lifts the block. Its queue is kept."""
        hold = Hold(self.bot_id, Scope.BOT, None, f"{kind}: {reason}")
        with self.database.connection() as connection, transaction(connection) as cursor:
            holds.hold(connection, [hold])
            cursor.execute(_BLOCK, {"bot": self.bot_id, "kind": kind, "reason": reason})
        self.change(State.FAILED, reason, event)

    def _change(self, state: State, reason: str | None, event: str, number: str | None, start: StartEvent) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        with self.database.connection() as connection:
            publish_state(connection, self.bot_id, state, reason, number=number, alive=True, start=start)
        self.state = state
        self.reason = reason
        log.info("session.state_changed", state=str(state), reason=reason)
        message = {"bot": self.bot_id, "event": event or str(state).lower(), "reason": reason}
        self.publish(CHANNEL, json.dumps(message))

    def _execute(self, statement: str, values: dict[str, Any]) -> None:
        with self.database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement, values | {"bot": self.bot_id})

    def _fetch(self, statement: str, values: Any) -> Any:
        with self.database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone()


# --- By the manager ---------------------------------------------------------------------------------------------------


def adopt_bots(connection: Connection) -> None:
    """Give each WhatsApp Web bot without a session one, unless the former server may run it."""
    bots = bot_ids(connection, _WITHOUT_SESSION)
    if bots:
        former = set(bot_ids(connection, _OF_FORMER, (bots,)))
        with connection.cursor() as cursor:
            cursor.execute(_ADOPT, ([each for each in bots if each not in former],))


def lift_expired_blocks(connection: Connection) -> list[int]:
    """Lift the blocks that have expired; returns their bots."""
    bots = bot_ids(connection, _EXPIRED_BLOCKS)
    if bots:
        with transaction(connection) as cursor:
            cursor.execute(_LIFT_BLOCKS, {"bots": bots})
    return bots


def block_failing(connection: Connection) -> list[int]:
    """Block the sessions whose starts keep failing; returns their bots."""
    with connection.cursor() as cursor:
        cursor.execute(_FAILING)
        bots = [bot for bot, failed, state in cursor.fetchall() if is_blocked(failed, state)]
    if bots:
        with transaction(connection) as cursor:
            cursor.execute(_BLOCK_FAILING, {"bots": bots, "minutes": FAILED_STARTS_BLOCK_MINUTES})
    return bots


def bot_ids(connection: Connection, query: str, values: tuple[object, ...] = ()) -> list[int]:
    """The bots that a query of one column returns."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return [bot for (bot,) in cursor.fetchall()]
