"""The supervision of this machine's sessions: starts the wanted ones, stops the others, and checks the running ones.

Its whole state is in the database and in supervisord, so a manager that is killed loses nothing, and the sessions
continue.
"""

import os
import socket
from collections.abc import Callable

import structlog

from bisnesctl.audit import trail
from bisnesctl.audit.record import Source
from bisnesctl.bots import web_sessions
from bisnesctl.bots.ownership import Side
from bisnesctl.bots.web_sessions import WebSession
from bisnesctl.database import quotas
from bisnesctl.database.quotas import Quota
from bisnesctl.errors import BisnesError
from bisnesctl.health import exit_reasons
from bisnesctl.naming import session_name
from bisnesctl.processes.session_programs import SessionPrograms
from bisnesctl.processes.supervisor import Process, Supervisor
from bisnesctl.settings import Settings
from services.connectors.wwebjs.browser import profiles
from services.connectors.wwebjs.browser.profiles import ProfileInUse
from services.connectors.wwebjs.manager import store
from services.connectors.wwebjs.manager.plan import Program, plan, program_name, session_to_recycle
from services.connectors.wwebjs.session import commands, status_store
from services.database.connection import Connection
from services.wakeups import Notifier

#: The time between two rounds without a notification.
ROUND_SECONDS = 60.0
#: The time until the next round if more sessions are to be started or stopped.
UNFINISHED_ROUND_SECONDS = 1.0
#: The time until the next round after a failure.
FAILED_ROUND_SECONDS = 5.0

log = structlog.get_logger()


class SessionSupervisor:
    """Supervises the sessions of one side on this machine. A session continues when its bot changes its owner.

    The guard handles hanging sessions, because it sees the heartbeats of this machine and counts restarts.
    """

    def __init__(self, settings: Settings, notifier: Notifier, side: Side) -> None:
        """`side`: whose bots' sessions it supervises, beside those of bots without an owner."""
        self.side = side
        self._settings = settings
        self._notifier = notifier
        self._programs = SessionPrograms(settings)
        self._supervisor = Supervisor(settings.run_dir)
        self._host = socket.gethostname()
        self._starting_up = True  # until all are up: sessions that were stopped together with the manager run again
        self._missing: set[int] = set()  # bots whose session had no process at the last look

    def round(self, connection: Connection) -> float:
        """Start the wanted sessions and stop all others; returns the seconds until the next round.

        Raises `DatabaseUnavailable`, `DatabaseError`, and `NotRunning` if supervisord cannot be reached.
        """
        status_store.adopt_bots(connection)
        for bot in status_store.block_failing(connection):
            minutes = status_store.FAILED_STARTS_BLOCK_MINUTES
            log.warning("session.blocked", bot=bot, reason="its starts fail", minutes=minutes)
            self._record("session_blocked", f"bot {bot}", f"its starts fail; blocked for {minutes} minutes")
        status_store.lift_expired_blocks(connection)
        here = self._here(connection)
        sessions = store.of_side(connection, here, self.side)
        others = {program_name(each) for each in here} - {program_name(each) for each in sessions}
        programs, max_sessions = self._known(), self._settings.max_sessions
        known = {name: how for name, how in programs.items() if name not in others}
        own = quotas.own_limits(connection)
        todo = plan(
            sessions, known, max_sessions, _max_starts(),
            lambda company: quotas.limit_of(own, self._settings, company, Quota.WEB_SESSIONS),
        )  # fmt: skip
        stopping = {name for name in todo.remove if not self._take_down(name)}
        for idle in todo.idle:
            if program_name(idle.session) not in stopping:  # it publishes its own end
                _publish(connection, idle.session, idle.state, idle.reason)
        removed = [each for each in store.removed(connection) if session_name(each.company, each.phone) not in stopping]
        done = [self._discard(connection, each) for each in removed]
        gone = set(todo.remove) - stopping
        room = max_sessions - sum(how is Program.ACTIVE and name not in gone for name, how in programs.items())
        done += [self._add(each) for each in todo.start[: max(room, 0)]]
        self._starting_up = self._starting_up and (todo.later or not all(done))
        if stopping or todo.later:
            return UNFINISHED_ROUND_SECONDS
        return ROUND_SECONDS if all(done) else FAILED_ROUND_SECONDS

    def look(self, connection: Connection) -> int:
        """Check the sessions of this machine: publish lost ones, and renew one if all use too much memory.

        Returns how many are WORKING. Raises like `round`.
        """
        sessions = store.of_side(connection, self._here(connection), self.side)
        processes = self._supervisor.processes()
        missing = {each.bot_id for each in sessions if _is_missing(each, processes.get(program_name(each)))}
        for session in sessions:
            if session.bot_id in missing & self._missing:
                process = processes.get(program_name(session))
                ended = f" ({self._manner(process)})" if process else ""
                _publish(connection, session, "FAILED", f"its process does not run{ended}")
        self._missing = missing
        self._limit_memory(connection, [each for each in sessions if each.runs])
        return sum(each.state == "WORKING" for each in sessions)

    def _manner(self, process: Process) -> str:
        """How the process of a session ended, in its own words if it said why."""
        folder, status = self._settings.log_dir, process.exit_status
        said = exit_reasons.find_words(folder, process.name, status, process.lived, process.ended_at or None)
        if status < 0:
            return exit_reasons.manner(status, said)
        return f"it ended with {status}{f': {said}' if said else ''}"

    def _known(self) -> dict[str, Program]:
        processes = self._supervisor.processes()
        return {each.name: _program(processes.get(each.name), self._starting_up) for each in self._programs.known()}

    def _here(self, connection: Connection) -> list[WebSession]:
        """All sessions but those of other machines."""
        found, max_age = web_sessions.find(connection), self._settings.max_heartbeat_age / 1000
        others = store.elsewhere(connection, found, self._host, max_age)
        return [each for each in found if each.bot_id not in others]

    def _try(self, action: Callable[..., object], *arguments: object) -> bool:
        """Whether it succeeded. A failure for one session must not affect the others."""
        try:
            return action(*arguments) is not False
        except BisnesError as error:
            log.warning("session.program_unchanged", program=arguments, reason=str(error))
            return False

    def _take_down(self, name: str) -> bool:
        done = self._try(self._programs.take_down, name)
        if done:
            self._record("session_stopped", name, "stopped by an operator, blocked, beyond a limit, or elsewhere")
        return done

    def _add(self, session: WebSession) -> bool:
        done = self._try(self._programs.add, session.company, session.phone)
        if done:
            self._record("session_started", session.name, "an operator wants it, and nothing prevents it")
        return done

    def _record(self, decision: str, about: str, reason: str) -> None:
        trail.add_decision(self._settings.home, Source.MANAGER, decision, about, reason)

    def _discard(self, connection: Connection, removed: store.Removed) -> bool:
        """Whether the profile of a removed bot is deleted."""
        try:
            profiles.discard(self._settings.profile_dir, removed.company, removed.phone, removed.bot_id)
        except (ProfileInUse, OSError) as error:
            log.warning("profile.delete_failed", reason=str(error))
            return False
        store.forget(connection, removed.bot_id)
        log.info("profile.deleted", company=removed.company, phone=removed.phone)
        return True

    def _limit_memory(self, connection: Connection, running: list[WebSession]) -> None:
        found = store.activity(connection, [each.bot_id for each in running])
        session = session_to_recycle(running, self._settings.wwebjs_memory_mb, found.recycled, found.busy)
        if session is not None:
            log.warning("session.recycled", session=session.name, mb=session.memory_mb, reason="memory of all sessions")
            self._record("session_recycled", session.name, f"memory of all sessions; it uses {session.memory_mb} MB")
            commands.send(connection, self._notifier, session.bot_id, "recycle", {})


def _publish(connection: Connection, session: WebSession, state: str, reason: str) -> None:
    """Publish the state of a session whose process does not run: STOPPED or FAILED."""
    status_store.publish_state(connection, session.bot_id, state, reason, alive=False)


def _max_starts() -> int:
    """Browsers that may start at the same time. Without a CPU of its own, a browser does not come up in time."""
    return max(2, os.cpu_count() or 1)


def _program(process: Process | None, starting_up: bool) -> Program:
    if process is None or (starting_up and process.settled):
        return Program.FRESH
    return Program.ACTIVE if process.active else Program.ENDED


def _is_missing(session: WebSession, process: Process | None) -> bool:
    """Whether its state says that it runs although it does not, or it ended before it could publish anything."""
    if session.state == "FAILED" or (process is not None and process.active):
        return False
    return session.runs or (process is not None and not process.settled)
