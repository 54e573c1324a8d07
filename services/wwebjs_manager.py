"""The process that manages the WhatsApp Web sessions: health and session routes over HTTP, and the keeper.

`gunicorn services.wwebjs_manager:create_service()` serves it (port 3001). The session routes are those of the API, with
the same keys.
"""

from collections.abc import Iterable
from typing import Any

from bisnesctl.bots.ownership import Side
from bisnesctl.settings import Settings
from services.api.app import create_app
from services.api.auth import Callers
from services.api.context import Context
from services.api.quotas import ApiQuotas
from services.api.routes.health import health
from services.api.routes.sessions import session, sessions
from services.connectors.wwebjs.manager.keeper import create_keeper
from services.http_server.body import MAX_BODY
from services.http_server.service import Hooks, Service
from services.media.store import counted_store
from services.outbox.accept import Acceptor
from services.runtime.process import Process
from services.wakeups import Notifier, WakeupSender


class Manager:
    """The WSGI application, which starts the keeper."""

    def __init__(self, context: Context) -> None:
        self.counters = context.counters  # read by the process's heartbeat
        self.callers = Callers(context.accounts, context.quotas)
        self._flask = create_app(context, (health, sessions, session))
        self._keeper = create_keeper(
            context.settings, context.database, context.notifier, context.counters, Side.MULTIPROCESS
        )  # fmt: skip

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._flask(environ, start_response)

    def start(self) -> None:
        """Start the keeper."""
        self._keeper.start()

    def stop(self) -> None:
        """Stop the keeper; the sessions run on."""
        self._keeper.stop()
        self.callers.close()


def connect(settings: Settings, notifier: Notifier) -> Context:
    """The context of the session routes. The first request connects."""
    process = Process(settings, "wwebjs", settings.database_pool_wwebjs_max)
    acceptor = Acceptor(process.database, notifier)
    quotas = ApiQuotas(settings, process.database, process.accounts)
    media = counted_store(settings, process.database, quotas.quotas)
    return Context(settings, process.database, process.accounts, acceptor, notifier, media, quotas)


def create_service() -> Service:
    """The application for gunicorn, from the environment's settings."""
    settings = Process.from_environment("wwebjs").settings
    manager = Manager(connect(settings, WakeupSender(settings.redis_dsn)))
    return Service(manager, MAX_BODY, Hooks(manager.start, manager.stop), share_of=manager.callers.share_of)
