"""Receivers of alerts: an HTTP server for `json://` and for a dead-man switch, and an SMTP server for `mailto://`."""

import json
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One call."""

    path: str
    body: str

    @property
    def json(self) -> dict[str, Any]:
        """The body of `json://`: title and message."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class AlertReceiver:
    """Collects calls. `answer(call)` returns the status to answer with, and may wait."""

    def __init__(self, answer: Callable[[Received], int] = lambda call: 200) -> None:
        self.answer = answer
        self.calls: list[Received] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                call = Received(self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
                outer.calls.append(call)
                self.send_response(outer.answer(call))
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """Its port on the loopback address."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its address for ALERT_URLS, with a secret in it."""
        return f"json://operator:hidden-password@127.0.0.1:{self.port}/hidden-path"

    @property
    def titles(self) -> list[str]:
        """The titles of the messages, in order of arrival, without the name of this machine."""
        return [call.json["title"].partition("] ")[2] for call in self.calls]

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()


class MailReceiver:
    """Collects mails over SMTP."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 test\r\n")
                while line := self.rfile.readline():
                    word = line.split(maxsplit=1)[0].upper() if line.strip() else b""
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        outer.mails.append(self._mail())
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                    if word == b"QUIT":
                        return

            def _mail(self) -> str:
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line.decode())
                return "".join(lines)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address for ALERT_URLS."""
        return f"mailto://127.0.0.1:{self._server.server_address[1]}?from=bisnes@example.com&to=ops@example.com&mode=insecure"

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()
