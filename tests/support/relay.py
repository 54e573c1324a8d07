"""A relay in front of the API that refuses requests or loses answers."""

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import requests


class Request(NamedTuple):
    """A request that came to the relay."""

    method: str
    path: str
    headers: Mapping[str, str]


class Relay:
    """Passes requests on to the API. Each POST first uses up one of `troubles`, in their order.

    A trouble is a status, which is answered with a page and `Retry-After: 2`; or "cut": the API gets the request, but
    the client loses the connection before the answer.
    """

    def __init__(self, api: str, *troubles: int | str) -> None:
        self.requests: list[Request] = []
        self._api, self._troubles = api, list(troubles)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._serve(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        request = Request(handler.command, handler.path, dict(handler.headers))
        self.requests.append(request)
        trouble = self._troubles.pop(0) if request.method == "POST" and self._troubles else None
        if isinstance(trouble, int):
            self._answer(handler, trouble, b"<html>no</html>", {"Retry-After": "2"})
            return
        kept = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        with requests.Session() as session:
            session.trust_env = False
            found = session.request(request.method, self._api + request.path, data=body, headers=kept, timeout=30)
        if trouble == "cut":
            handler.close_connection = True
        else:
            self._answer(handler, found.status_code, found.content, {"Content-Type": "application/json"})

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
