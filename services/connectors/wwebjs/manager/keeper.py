"""Starts, stops and watches the sessions of this machine, on a thread of a process."""

import contextlib
import socket
import threading
import time

import structlog

from bisnesctl.errors import BisnesError
from bisnesctl.settings import Settings
from services.connectors.wwebjs.manager import store
from services.connectors.wwebjs.manager.supervise import SessionSupervisor
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable, announcements
from services.runtime.heartbeat import Counters
from services.wakeups import Notifier

#: What announces a number, a start, a stop, a block, a new state.
CHANNELS = ("bisnes_config", "bisnes_sessions")
#: Seconds after which what could not be done is tried again, and for which the lead is waited for.
PAUSE = 1.0

log = structlog.get_logger()


class Keeper:
    """Looks after the sessions on a thread of its own, as long as no other manager of this machine does."""

    def __init__(self, database: Database, discovery: SessionSupervisor, counters: Counters, interval: float) -> None:
        """`interval`: seconds between two looks at the sessions that run."""
        self._database, self._discovery, self._counters, self._interval = database, discovery, counters, interval
        self._standing_by = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more; what is under way ends by itself, and harms nobody where it is cut off."""
        self._stopped.set()

    def _keep_on(self) -> None:
        while not self._stopped.is_set():
            try:
                with contextlib.closing(self._database.connect()) as connection:
                    self._lead(connection)
            except (DatabaseUnavailable, DatabaseError, BisnesError) as error:
                self._wait_because(str(error).strip())
            except Exception as error:
                log.exception("looking after the sessions failed, trying again")
                self._wait_because(f"looking after the sessions failed: {error}")

    def _wait_because(self, reason: str) -> None:
        if self._counters.degraded != reason:
            log.warning("the sessions run on, but nobody starts or stops them", reason=reason)
        self._counters.degraded = reason
        self._stopped.wait(PAUSE)

    def _stand_by(self) -> None:
        """All is well: one process takes over from another, or a rollout has both."""
        if not self._standing_by:
            log.info("another process looks after the sessions of this machine, waiting until it ends")
        self._standing_by, self._counters.degraded = True, None
        self._stopped.wait(PAUSE)

    def _lead(self, connection: Connection) -> None:
        if not store.take_lead(connection, socket.gethostname()):
            self._stand_by()
            return
        self._standing_by = False
        next_round = next_look = 0.0
        for heard in announcements(self._database, CHANNELS, self._stopped):
            with self._database.connection() as working:
                if heard or time.monotonic() >= next_round:
                    next_round = time.monotonic() + self._discovery.round(working)
                if time.monotonic() >= next_look:
                    self._counters.active_bots = self._discovery.look(working)
                    next_look = time.monotonic() + self._interval
            self._counters.degraded = None


def create_keeper(settings: Settings, database: Database, hints: Notifier, counters: Counters) -> Keeper:
    """The keeper of a process's settings. `counters` get its health."""
    return Keeper(database, SessionSupervisor(settings, hints), counters, settings.health_check_interval / 1000)
