"""What a session says of itself, where everybody looks: its row, the old tables, events, and Redis."""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from services.connectors.wwebjs.session.status_sql import announce
from services.connectors.wwebjs.states.failed_starts import StartEvent
from services.connectors.wwebjs.states.state_machine import State
from services.database.connection import Database, DatabaseError, DatabaseUnavailable, transaction
from services.message import Scope
from services.outbox import holds
from services.outbox.outcome_policy import Hold

#: The Redis channel on which sessions tell what happened: {"bot", "event", "reason"}.
CHANNEL = "bisnes:sessions"

log = structlog.get_logger()

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
_BEAT = """
UPDATE wa_session SET beat_at = CASE WHEN %(works)s THEN now() ELSE beat_at END, memory_mb = %(memory)s,
    versions = versions || %(versions)s::jsonb
WHERE bot_id = %(bot)s"""
_BLOCKED = "SELECT reason FROM wa_block WHERE bot_id = %s AND until > now()"
_BLOCK = """
INSERT INTO wa_block (bot_id, kind, reason, until) VALUES (%(bot)s, %(kind)s, %(reason)s, 'infinity')
ON CONFLICT (bot_id) DO UPDATE SET kind = excluded.kind, reason = excluded.reason, since = now(), until = 'infinity'"""


@dataclass(slots=True)
class StatusStore:
    """Writes for one bot. Every call raises `DatabaseUnavailable` or `DatabaseError`."""

    database: Database
    bot_id: int
    publish: Callable[[str, str], None]  # to a channel of Redis; never raises
    state: State | None = None  # as it was written last
    reason: str | None = None

    def block(self) -> str | None:
        """What keeps it from starting, in words; None where nothing does."""
        with self.database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_BLOCKED, (self.bot_id,))
            row = cursor.fetchone()
        return str(row[0]) if row else None

    def begin(self) -> None:
        """A process of it has started; what the one before said of itself is not said by this one."""
        self._execute(_BEGIN, {"host": socket.gethostname(), "pid": os.getpid()})

    def change(self, state: State, reason: str | None = None, event: str = "", number: str | None = None) -> None:
        """It is so from now on. `event`: what the manager is told; `number`: digits, once it is linked."""
        came_up = state in (State.SCAN_QR_CODE, State.WORKING)
        self._change(state, reason, event, number, StartEvent.CAME_UP if came_up else StartEvent.INTERRUPTED)

    def fail(self, reason: str) -> None:
        """The start of this process has failed, and it ends."""
        self._change(State.FAILED, reason, "connection_failed", None, StartEvent.FAILED)

    def _change(self, state: State, reason: str | None, event: str, number: str | None, start: StartEvent) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        with self.database.connection() as connection:
            announce(connection, self.bot_id, state, reason, number=number, alive=True, start=start)
        self.state, self.reason = state, reason
        log.info("the session is", state=str(state), reason=reason)
        self._tell(event or str(state).lower(), reason)

    def show_qr(self, text: str, seconds: float) -> None:
        """What is to be scanned, for so long."""
        self._execute(_QR, {"qr": text, "seconds": seconds})

    def show_pairing_code(self, code: str, seconds: float) -> str:
        """What is to be typed in; returns when it ends, as ISO 8601."""
        with self.database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_PAIRING, {"bot": self.bot_id, "code": code, "seconds": seconds})
            row = cursor.fetchone()
        return row[0].isoformat() if row else ""

    def beat(self, works: bool, memory_mb: float, versions: dict[str, str]) -> None:
        """It lives; whether its page `works` as well."""
        self._execute(_BEAT, {"works": works, "memory": memory_mb, "versions": orjson.dumps(versions).decode()})

    def give_up(self, kind: str, reason: str, event: str) -> None:
        """It ends, and is not started again until an operator unblocks it; its queue is kept."""
        hold = Hold(self.bot_id, Scope.BOT, None, f"{kind}: {reason}")
        with self.database.connection() as connection, transaction(connection) as cursor:
            holds.hold(connection, [hold])
            cursor.execute(_BLOCK, {"bot": self.bot_id, "kind": kind, "reason": reason})
        self.change(State.FAILED, reason, event)

    def _execute(self, statement: str, values: dict[str, Any]) -> None:
        with self.database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement, values | {"bot": self.bot_id})

    def _tell(self, event: str, reason: str | None) -> None:
        self.publish(CHANNEL, json.dumps({"bot": self.bot_id, "event": event, "reason": reason}))


AWAY = (DatabaseUnavailable, DatabaseError)
