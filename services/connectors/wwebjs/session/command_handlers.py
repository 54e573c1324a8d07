"""What a session is told to do: rows of `wa_command`, carried out by the thread that owns the browser."""

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
from services.connectors.wwebjs.session.status_store import AWAY
from services.connectors.wwebjs.states.page_state import PageState
from services.connectors.wwebjs.states.state_machine import End
from services.database.connection import Connection, Database

#: Seconds between two looks where nobody rang, and for which a pairing code is shown.
LOOK, CODE_LIFE = 1.0, 180.0
#: Seconds after which a command that was not carried out means nothing any more.
STALE = 300

_TAKE = f"""
UPDATE wa_command SET taken_at = now() WHERE id = (
    SELECT id FROM wa_command
    WHERE bot_id = %s AND taken_at IS NULL AND created_at > now() - {STALE} * interval '1 second'
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, command, arguments"""
_DONE = "UPDATE wa_command SET done_at = now(), answer = %s, error = %s WHERE id = %s"

log = structlog.get_logger()

Answer = dict[str, Any]


class NotNow(Exception):
    """The session cannot do it as it is; the text says why."""


class CommandHandlers:
    """Takes the commands of one bot. `rung` may be called from any thread."""

    def __init__(self, database: Database, bot_id: int) -> None:
        self._database, self._bot_id = database, bot_id
        self._next = 0.0

    def rung(self) -> None:
        """Look at once."""
        self._next = 0.0

    def carry_out(self, owner: BrowserLoop) -> None:
        """Do what is waiting."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK
        try:
            with self._database.connection() as connection:
                while owner.asked is None and (taken := self._take(connection)):  # the next browser does the others
                    self._do(connection, owner, *taken)
        except AWAY as error:
            log.debug("commands are looked for later", reason=str(error))

    def _take(self, connection: Connection) -> tuple[int, str, Answer] | None:
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, (self._bot_id,))
            return cursor.fetchone()

    def _do(self, connection: Connection, owner: BrowserLoop, number: int, command: str, arguments: Answer) -> None:
        log.info("a command", command=command)
        answer: Answer | None = None
        error = None
        try:
            known = _COMMANDS.get(command)
            if known is None:
                raise NotNow(f"a session knows no command {command}")
            answer = known(owner, arguments)
            if owner.asked is End.FORGET:
                web_sessions.release_number(connection, self._bot_id, with_queue=False)
        except (CallFailed, CallTimeout, NotNow) as failure:
            error = str(failure)
        except PageLost as failure:
            error = f"the page was lost: {failure}"
            raise
        finally:
            with connection.cursor() as cursor:
                cursor.execute(_DONE, (orjson.dumps(answer or {}).decode(), error, number))


def _restart(owner: BrowserLoop, _: Answer) -> Answer:
    owner.ask(End.RENEW)
    return {}


def _recycle(owner: BrowserLoop, _: Answer) -> Answer:
    owner.course.renew("all sessions together use too much memory")
    return {}


def _shutdown(owner: BrowserLoop, _: Answer) -> Answer:
    owner.ask(End.STOP)
    return {}


def _refresh(owner: BrowserLoop, _: Answer) -> Answer:
    """Settings of the bot are read from the database each time; the page is looked at anew."""
    owner.look_soon()
    return {}


def _status(owner: BrowserLoop, _: Answer) -> Answer:
    if not owner.course.opened:
        return {"view": owner.course.view.value}
    health = owner.browser.page.health()
    return {"view": owner.course.view.value, "mode": health.mode, "socket": health.socket, "waJs": health.wa_js}


def _logout(owner: BrowserLoop, _: Answer) -> Answer:
    if owner.course.view in (PageState.WORKING, PageState.OFFLINE):
        try:
            owner.browser.page.call("WPP.conn.logout", deadline=10.0)
        except CallTimeout:  # it waits for an event that may not come; the profile is put away in any case
            log.warning("the phone may show the session for a while")
    owner.ask(End.FORGET)
    return {}


def _pair(owner: BrowserLoop, arguments: Answer) -> Answer:
    if owner.course.view is not PageState.SCAN:
        raise NotNow("the session shows no QR code: there is nothing to link now")
    number = str(arguments.get("phoneNumber", ""))
    code = owner.browser.page.call("WPP.conn.startLinkDeviceCodeForPhoneNumber", number)
    return {"code": code, "expiresAt": owner.register.show_pairing_code(str(code), CODE_LIFE)}


def _doctor(owner: BrowserLoop, _: Answer) -> Answer:
    if not owner.course.opened:
        raise NotNow("the page is not open: there is nothing to look at now")
    return {"findings": [asdict(each) for each in wajs_contract.examine(owner.browser.page)]}


_COMMANDS: dict[str, Callable[[BrowserLoop, Answer], Answer]] = {
    "restart": _restart,
    "recycle": _recycle,
    "shutdown": _shutdown,
    "refresh": _refresh,
    "status": _status,
    "logout": _logout,
    "pair": _pair,
    "doctor": _doctor,
}
