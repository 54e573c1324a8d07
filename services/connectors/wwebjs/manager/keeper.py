"""The manager of the WhatsApp Web sessions: health and session calls over HTTP, and the thread that looks after them.

`gunicorn services.connectors.wwebjs.manager.keeper:app` serves it (port 3001). The session calls are those of the
API, with the same keys.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

import structlog

from bisnesctl.errors import BisnesError
from bisnesctl.settings import Settings, load
from services.api.app import MAX_BODY, create_app
from services.api.context import Context
from services.api.routes.health import health
from services.api.routes.sessions import session, sessions
from services.connectors.wwebjs.manager import store
from services.connectors.wwebjs.manager.supervise import Discovery
from services.database.listen import notifications
from services.http_server.service import Hooks, Service
from services.media.store import media_store
from services.outbox.accept import Intake, Notifier
from services.outbox.store import Connection, Database, DatabaseError, DatabaseUnavailable
from services.runtime.account_cache import Directory
from services.runtime.heartbeat import Counters
from services.wakeups.redis_broker import Hints, WakingBroker

#: What announces a number, a start, a stop, a block, a new state.
CHANNELS = ("bisnes_config", "bisnes_sessions")
#: Seconds after which what could not be done is tried again, and for which the lead is waited for.
PAUSE = 1.0

log = structlog.get_logger()


class Keeper:
    """Looks after the sessions on a thread of its own, as long as no other manager of this machine does."""

    def __init__(self, database: Database, discovery: Discovery, counters: Counters, interval: float) -> None:
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
        for heard in notifications(self._database, CHANNELS, self._stopped):
            with self._database.connection() as working:
                if heard or time.monotonic() >= next_round:
                    next_round = time.monotonic() + self._discovery.round(working)
                if time.monotonic() >= next_look:
                    self._counters.active_bots = self._discovery.look(working)
                    next_look = time.monotonic() + self._interval
            self._counters.degraded = None


def keeper_of(context: Context) -> Keeper:
    """Who looks after the sessions with the context of a process."""
    settings = context.settings
    discovery = Discovery(settings, context.hints)
    return Keeper(context.database, discovery, context.counters, settings.health_check_interval / 1000)


class Manager:
    """The WSGI application of the manager's process, and what looks after the sessions beside it."""

    def __init__(self, context: Context) -> None:
        self.counters = context.counters  # told by the process's heartbeat
        self._flask = create_app(context, (health, sessions, session))
        self._keeper = keeper_of(context)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._flask(environ, start_response)

    def start(self) -> None:
        """Look after the sessions from now on."""
        self._keeper.start()

    def stop(self) -> None:
        """Leave them to themselves."""
        self._keeper.stop()


def connect(settings: Settings, hints: Notifier) -> Context:
    """What the manager is made of."""
    name = os.environ.get("BISNES_INSTANCE", "wwebjs")
    database = Database(settings.database_dsn, settings.database_pool_wwebjs_max, name)
    directory = Directory(database)
    directory.start()
    return Context(settings, database, directory, Intake(database, hints), hints, {}, media_store(settings))


def __getattr__(name: str) -> Any:
    """`app`, wired when gunicorn asks for it: nothing connects on import."""
    if name != "app":
        raise AttributeError(name)
    settings = load()
    manager = Manager(connect(settings, Hints(WakingBroker(settings.redis_dsn))))
    return Service(manager, MAX_BODY, Hooks(manager.start, manager.stop))
