"""An HTTP process that can be jammed: `GET /jam` never ends, and its watchdog is impatient."""

import threading
from collections.abc import Iterable
from typing import Any

from services.http_server.service import HEALTH_THREADS, Service
from services.http_server.watchdog import Watchdog
from services.runtime.heartbeat import Counters


class Jam:
    """The WSGI application."""

    counters = Counters()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/jam":
            threading.Event().wait()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


app = Service(Jam(), 1000, threads=HEALTH_THREADS + 2)
app.watchdog = Watchdog(app.watchdog._progress, 2.0)
