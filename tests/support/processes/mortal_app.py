"""An HTTP process whose worker ends on request: `GET /exit/<status>`."""

import os
from collections.abc import Iterable
from typing import Any

from services.http_server.service import Service
from services.runtime.heartbeat import Counters


class Mortal:
    """The WSGI application."""

    counters = Counters()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/exit/"):
            os._exit(int(environ["PATH_INFO"].rpartition("/")[2]))
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


app = Service(Mortal(), 1000)
