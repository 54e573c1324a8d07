"""An HTTP process that ends on request (`GET /exit/<status>`), or hangs: its loop (`/hang`), or a thread (`/slow`)."""

import os
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

from services.http_server.asgi import Receive, Scope, Send
from services.http_server.service import Service
from services.http_server.watchdog import Watchdog
from services.runtime.heartbeat import Counters

HOUR_SECONDS = 3600
#: Seconds without a turn of the event loop after which the impatient process ends.
LOOP_HUNG_SECONDS = 4.0


class Mortal:
    """The WSGI application."""

    counters = Counters()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/exit/"):
            os._exit(int(environ["PATH_INFO"].rpartition("/")[2]))
        if environ["PATH_INFO"] == "/slow":
            _say("/slow")
            threading.Event().wait()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def _say(path: str) -> None:
    print("begin", path, file=sys.stderr, flush=True)


class MortalService(Service):
    """The application. Its event loop hangs on request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/hang":
            _say("/hang")
            time.sleep(HOUR_SECONDS)  # not a turn of the loop
        await super().__call__(scope, receive, send)


app = MortalService(Mortal(), 1000)
impatient_app = MortalService(Mortal(), 1000)
impatient_app.watchdog = Watchdog(loop_hung_seconds=LOOP_HUNG_SECONDS)
