"""What the manager does again and again: has the wanted sessions run, and looks how those that run are.

Everything it knows stands in the database and in supervisord, so that a manager that is killed forgets nothing; the
sessions do not notice.
"""

import os
import socket
from collections.abc import Callable

import structlog

from bisnesctl import paths
from bisnesctl.bots import web_sessions
from bisnesctl.bots.web_sessions import WebSession
from bisnesctl.errors import BisnesError
from bisnesctl.naming import session_name
from bisnesctl.processes.session_programs import SessionPrograms
from bisnesctl.processes.supervisor import Process, Supervisor
from bisnesctl.settings import Settings
from services.connectors.wwebjs.browser import profiles
from services.connectors.wwebjs.browser.profiles import ProfileInUse
from services.connectors.wwebjs.manager import store
from services.connectors.wwebjs.manager.plan import Program, fattest, plan, program_name
from services.connectors.wwebjs.session import commands
from services.database.connection import Connection
from services.wakeups.notifier import Notifier

#: Seconds between two rounds where nothing is announced.
INTERVAL = 60.0
#: Seconds until the next round where more sessions are to be started, and where something failed.
SOON, AGAIN = 1.0, 5.0

log = structlog.get_logger()


class SessionSupervisor:
    """Looks after the sessions of this machine.

    One that hangs is the guard's: it judges by what this machine knows, and counts its restarts.
    """

    def __init__(self, settings: Settings, hints: Notifier) -> None:
        self._settings, self._hints = settings, hints
        self._programs = SessionPrograms(settings)
        self._supervisor = Supervisor(paths.supervisor_socket(settings.run_dir))
        self._host = socket.gethostname()
        self._afresh = True  # until all are up: those that were stopped, with us or before us, are to run again
        self._gone: set[int] = set()  # bots whose session had no process at the last look

    def round(self, connection: Connection) -> float:
        """Have the wanted sessions run, and no others; returns the seconds until the next round.

        Raises `DatabaseUnavailable`, `DatabaseError` or, where supervisord is away, `NotRunning`.
        """
        store.adopt(connection)
        for bot in store.block_failing(connection):
            log.warning("a session is blocked: it fails to start", bot=bot, minutes=store.BLOCK_MINUTES)
        store.lift_blocks(connection)
        known, most = self._known(), self._settings.max_sessions
        todo = plan(self._sessions(connection), known, most, _at_once())
        stopping = {name for name in todo.remove if not self._try(self._programs.take_down, name)}
        for idle in todo.idle:
            if program_name(idle.session) not in stopping:  # it says itself how it ends
                store.show(connection, idle.session, idle.state, idle.reason)
        removed = [each for each in store.removed(connection) if session_name(each.company, each.phone) not in stopping]
        done = [self._discard(connection, each) for each in removed]
        gone = set(todo.remove) - stopping
        room = most - sum(how is Program.ACTIVE and name not in gone for name, how in known.items())
        done += [self._try(self._programs.add, each.company, each.phone) for each in todo.start[: max(room, 0)]]
        self._afresh = self._afresh and (todo.later or not all(done))
        return SOON if stopping or todo.later else AGAIN if not all(done) else INTERVAL

    def look(self, connection: Connection) -> int:
        """See how the sessions of this machine are: tell of those that are gone, renew a fat one.

        Returns how many are WORKING. Raises as `round` does.
        """
        sessions = self._sessions(connection)
        processes = self._supervisor.processes()
        gone = {each.bot_id for each in sessions if _is_gone(each, processes.get(program_name(each)))}
        for session in sessions:
            if session.bot_id in gone & self._gone:
                self._tell_gone(connection, session, processes.get(program_name(session)))
        self._gone = gone
        self._spare_memory(connection, [each for each in sessions if each.runs])
        return sum(each.state == "WORKING" for each in sessions)

    def _known(self) -> dict[str, Program]:
        processes = self._supervisor.processes()
        return {each.name: _program(processes.get(each.name), self._afresh) for each in self._programs.known()}

    def _sessions(self, connection: Connection) -> list[WebSession]:
        """All but those of other machines."""
        found, max_age = web_sessions.find(connection), self._settings.max_heartbeat_age / 1000
        others = store.elsewhere(connection, found, self._host, max_age)
        return [each for each in found if each.bot_id not in others]

    def _try(self, action: Callable[..., object], *arguments: object) -> bool:
        """Whether it is done; what cannot be for one session must not keep the others from it."""
        try:
            return action(*arguments) is not False
        except BisnesError as error:
            log.warning("a session's program cannot be changed, trying again", program=arguments, reason=str(error))
            return False

    def _discard(self, connection: Connection, removed: store.Removed) -> bool:
        """Whether the profile of a number that is no more is gone."""
        try:
            profiles.discard(self._settings.profile_dir, removed.company, removed.phone, removed.bot_id)
        except (ProfileInUse, OSError) as error:
            log.warning("a removed number's profile is still there, trying again", reason=str(error))
            return False
        store.forget(connection, removed.bot_id)
        log.info("a removed number's profile is gone", company=removed.company, phone=removed.phone)
        return True

    def _tell_gone(self, connection: Connection, session: WebSession, process: Process | None) -> None:
        ended = f" (it ended with {process.exit_status})" if process else ""
        store.show(connection, session, "FAILED", f"its process does not run{ended}")

    def _spare_memory(self, connection: Connection, running: list[WebSession]) -> None:
        use = store.use(connection, [each.bot_id for each in running])
        session = fattest(running, self._settings.wwebjs_memory_mb, use.recycled, use.busy)
        if session is not None:
            log.warning("the sessions use too much memory, renewing one", session=session.name, mb=session.memory_mb)
            commands.send(connection, self._hints, session.bot_id, "recycle", {})


def _at_once() -> int:
    """Browsers that may start at the same time: one that has no processor for itself does not come up in time."""
    return max(2, os.cpu_count() or 1)


def _program(process: Process | None, afresh: bool) -> Program:
    if process is None or (afresh and process.settled):
        return Program.FRESH
    return Program.ACTIVE if process.active else Program.ENDED


def _is_gone(session: WebSession, process: Process | None) -> bool:
    """Whether it says that it runs and does not, or ended before it could say anything."""
    if session.state == "FAILED" or (process is not None and process.active):
        return False
    return session.runs or (process is not None and not process.settled)
