"""The program `dashboard`: `gunicorn services.dashboard.service:create_service()` serves it (port 3004)."""

import os
from typing import Any

from bisnesctl.people.store import PeopleStore
from services.dashboard import live
from services.dashboard.app import MAX_FORM, NAME, PREFIX, Dashboard
from services.dashboard.pages.answers import large_form
from services.http_server.asgi import Receive, Scope, Send
from services.http_server.service import Service
from services.runtime import cpu_priority
from services.runtime.process import Process

#: Connections to PostgreSQL.
POOL_SIZE = 5
#: Threads of the pages.
THREADS = 16


class DashboardService:
    """The ASGI application: live updates on the event loop, all else in threads."""

    def __init__(self, app: Dashboard) -> None:
        self._app, self._service = app, Service(app, MAX_FORM, threads=THREADS, large_body=large_form)
        self._streams: live.LiveStreams | None = None
        self.counters, self.watchdog = self._service.counters, self._service.watchdog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or start and stop with the server."""
        if scope["type"] == "http" and scope["path"] == live.PATH:
            await self._live().serve(scope, receive, send)
            return
        await self._service(scope, receive, send)
        if scope["type"] == "lifespan" and self._streams is not None:
            self._streams.close()

    def _live(self) -> live.LiveStreams:
        if self._streams is None:
            self._streams = live.LiveStreams(self._app, f"{PREFIX}/")
        return self._streams


def create_service() -> Any:
    """The application for gunicorn, from the environment's settings."""
    cpu_priority.lower(os.getpid())  # before there are threads, which inherit it
    process = Process.from_environment(NAME, lambda _: POOL_SIZE)
    return DashboardService(Dashboard(process.settings, process.database, PeopleStore(process.settings.home)))
