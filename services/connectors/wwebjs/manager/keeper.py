"""The thread that supervises the sessions of a side on this machine, in one process at a time."""

import contextlib
import socket
import threading
import time

import structlog

from bisnesctl.bots.ownership import Side
from bisnesctl.errors import BisnesError
from bisnesctl.settings import Settings
from services.connectors.wwebjs.manager import store
from services.connectors.wwebjs.manager.session_supervisor import SessionSupervisor
from services.database.announcements import announcements
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.runtime.heartbeat import Counters
from services.wakeups import Notifier

#: The PostgreSQL channels that announce new bots, starts, stops, blocks and states.
CHANNELS = ("bisnes_config", "bisnes_sessions")
#: The pause after a failure, and between two attempts to take the lead.
RETRY_SECONDS = 1.0
#: Seconds between two checks that the connection that receives announcements answers, at most.
CHECK_SECONDS = 5.0

log = structlog.get_logger()


class Keeper:
    """Supervises the sessions on a thread of its own, unless another process of this machine does."""

    def __init__(self, database: Database, supervisor: SessionSupervisor, counters: Counters, interval: float) -> None:
        """`interval`: seconds between two looks at the running sessions."""
        self._database = database
        self._supervisor = supervisor
        self._counters = counters
        self._interval = interval
        self._standing_by = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more. A round that is under way may be cut off without harm."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with contextlib.closing(self._database.connect()) as connection:
                    self._lead(connection)
            except (DatabaseUnavailable, DatabaseError, BisnesError) as error:
                self._wait_because(str(error).strip())
            except Exception as error:
                log.exception("keeper.failed")
                self._wait_because(f"the supervision of the sessions failed: {error}")

    def _wait_because(self, reason: str) -> None:
        if self._counters.degraded != reason:
            log.warning("keeper.waiting", reason=reason, effect="sessions run on, but none is started or stopped")
        self._counters.degraded = reason
        self._stopped.wait(RETRY_SECONDS)

    def _stand_by(self) -> None:
        """Wait for the lead, which is no failure: another process is about to end, or a rollout has both."""
        if not self._standing_by:
            log.info("keeper.standing_by", reason="another process supervises the sessions of this machine")
        self._standing_by = True
        self._counters.degraded = None
        self._stopped.wait(RETRY_SECONDS)

    def _lead(self, connection: Connection) -> None:
        if not store.take_lead(connection, socket.gethostname(), self._supervisor.side):
            self._stand_by()
            return
        self._standing_by = False
        next_round = next_look = 0.0

        def pause() -> float:
            return min(min(next_round, next_look) - time.monotonic(), CHECK_SECONDS)

        for notified in announcements(self._database, CHANNELS, self._stopped, pause):
            if not notified and time.monotonic() < min(next_round, next_look):
                continue
            with self._database.connection() as working:
                if notified or time.monotonic() >= next_round:
                    next_round = time.monotonic() + self._supervisor.round(working)
                if time.monotonic() >= next_look:
                    self._counters.active_bots = self._supervisor.look(working)
                    next_look = time.monotonic() + self._interval
            self._counters.degraded = None


def create_keeper(
    settings: Settings, database: Database, notifier: Notifier, counters: Counters, side: Side
) -> Keeper:  # fmt: skip
    """The keeper of the sessions of this side. `counters` receive its health."""
    supervisor = SessionSupervisor(settings, notifier, side)
    return Keeper(database, supervisor, counters, settings.health_check_interval / 1000)
