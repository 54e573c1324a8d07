"""Carries out the commands for a session, on the thread of the browser loop."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
import structlog

from bisnesctl.bots import web_sessions
from services.connectors.wwebjs.browser import wajs_contract
from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, PageLost
from services.connectors.wwebjs.session.browser_loop import BrowserLoop
from services.connectors.wwebjs.session.status_store import UNAVAILABLE
from services.connectors.wwebjs.states.state_machine import End, PageState
from services.database.connection import Connection, Database

#: The pause between two looks for commands without a wake-up.
POLL_SECONDS = 1.0
#: How long a pairing code is shown as valid.
PAIRING_CODE_SECONDS = 180.0
#: The limit for a log-out.
LOGOUT_TIMEOUT_SECONDS = 10.0
#: The age at which a command is no longer carried out.
MAX_AGE_SECONDS = 300

_CLAIM = f"""
UPDATE wa_command SET taken_at = now() WHERE id = (
    SELECT id FROM wa_command
    WHERE bot_id = %s AND taken_at IS NULL AND created_at > now() - {MAX_AGE_SECONDS} * interval '1 second'
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, command, arguments"""
_DONE = "UPDATE wa_command SET done_at = now(), answer = %s, error = %s WHERE id = %s"

log = structlog.get_logger()

Answer = dict[str, Any]


class NotPossible(Exception):
    """The session cannot do it in its present state; the text says why."""


class CommandHandlers:
    """Claims the commands of one bot and carries them out."""

    def __init__(self, database: Database, bot_id: int) -> None:
        self._database = database
        self._bot_id = bot_id
        self._next = 0.0

    def wake(self) -> None:
        """Look for commands at once. Safe for any thread."""
        self._next = 0.0

    def carry_out(self, loop: BrowserLoop) -> None:
        """Carry out the commands that are waiting."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + POLL_SECONDS
        try:
            with self._database.connection() as connection:
                while loop.requested_end is None and (claimed := self._claim(connection)):
                    self._do(connection, loop, *claimed)
        except UNAVAILABLE as error:
            log.debug("session.commands_postponed", reason=str(error))

    def _claim(self, connection: Connection) -> tuple[int, str, Answer] | None:
        with connection.cursor() as cursor:
            cursor.execute(_CLAIM, (self._bot_id,))
            return cursor.fetchone()

    def _do(self, connection: Connection, loop: BrowserLoop, command_id: int, command: str, arguments: Answer) -> None:
        log.info("session.command_received", command=command)
        answer: Answer | None = None
        error = None
        try:
            handler = _HANDLERS.get(command)
            if handler is None:
                raise NotPossible(f"a session has no command {command}")
            answer = handler(loop, arguments)
            if loop.requested_end is End.FORGET:
                web_sessions.release_number(connection, self._bot_id, with_queue=False)
        except (CallFailed, CallTimeout, NotPossible) as failure:
            error = str(failure)
        except PageLost as failure:
            error = f"the page was lost: {failure}"
            raise
        finally:
            with connection.cursor() as cursor:
                cursor.execute(_DONE, (orjson.dumps(answer or {}).decode(), error, command_id))


def _restart(loop: BrowserLoop, _: Answer) -> Answer:
    loop.request_end(End.RENEW)
    return {}


def _recycle(loop: BrowserLoop, _: Answer) -> Answer:
    loop.machine.renew("all sessions together use too much memory")
    return {}


def _shutdown(loop: BrowserLoop, _: Answer) -> Answer:
    loop.request_end(End.STOP)
    return {}


def _refresh(loop: BrowserLoop, _: Answer) -> Answer:
    """Look at the page. The bot's settings need no refresh: they are read from the database each time."""
    loop.look_soon()
    return {}


def _status(loop: BrowserLoop, _: Answer) -> Answer:
    if not loop.machine.opened:
        return {"view": loop.machine.page.value}
    health = loop.browser.page.health()
    return {"view": loop.machine.page.value, "mode": health.mode, "socket": health.socket, "waJs": health.wa_js}


def _logout(loop: BrowserLoop, _: Answer) -> Answer:
    if loop.machine.page in (PageState.WORKING, PageState.OFFLINE):
        try:
            loop.browser.page.call("WPP.conn.logout", deadline=LOGOUT_TIMEOUT_SECONDS)
        except CallTimeout:  # it waits for an event that may not come; the profile is archived in any case
            log.warning("session.logout_unconfirmed", effect="the phone may show the session for a while")
    loop.request_end(End.FORGET)
    return {}


def _pair(loop: BrowserLoop, arguments: Answer) -> Answer:
    if loop.machine.page is not PageState.SCAN:
        raise NotPossible("the session shows no QR code: there is nothing to link at the moment")
    number = str(arguments.get("phoneNumber", ""))
    code = loop.browser.page.call("WPP.conn.startLinkDeviceCodeForPhoneNumber", number)
    return {"code": code, "expiresAt": loop.status.show_pairing_code(str(code), PAIRING_CODE_SECONDS)}


def _doctor(loop: BrowserLoop, _: Answer) -> Answer:
    if not loop.machine.opened:
        raise NotPossible("the page is not open: there is nothing to check at the moment")
    return {"findings": [asdict(each) for each in wajs_contract.examine(loop.browser.page)]}


_HANDLERS: dict[str, Callable[[BrowserLoop, Answer], Answer]] = {
    "restart": _restart,
    "recycle": _recycle,
    "shutdown": _shutdown,
    "refresh": _refresh,
    "status": _status,
    "logout": _logout,
    "pair": _pair,
    "doctor": _doctor,
}
