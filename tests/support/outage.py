"""A Graph API that can become unavailable and recover, and a worker that sends to it."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services import channel
from services.channel import Channel, tuned_for_meta
from services.connector import Connector
from services.connectors.meta.connector import MetaConnector
from services.connectors.meta.translation import incoming
from services.outbox.outcome_policy import Pauses
from tests.support.deployment import free_ports
from tests.support.outbox_worker import Stage

#: Seconds between the sweeps of a worker.
SWEEP_INTERVAL_SECONDS = 0.2
#: Pauses of an outage for tests, so short that the sweeps of the workers set the pace.
FAST = Pauses(first=0.1, longest=0.5, reported_after=0.4)

#: HTTP status and body of an answer.
Answer = tuple[int, bytes]
PAGE = b"<html><body>Sorry, something went wrong</body></html>"


def error(code: int, status: int = 500) -> Answer:
    """Graph's answer with an error."""
    return status, json.dumps({"error": {"message": f"error {code}", "code": code}}).encode()


class Graph:
    """Accepts messages as the Cloud API does, unless `refuse` returns another answer for a text.

    `up` and `down` open and close its port. A text that begins with `cut` is accepted, and its connection is closed
    without an answer.
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.received: list[tuple[str, str]] = []  # (chat, text) of accepted messages
        self.tried: list[str] = []  # the texts of all attempts
        self.asked = 0  # GETs
        self.refuse: Callable[[str], Answer | None] = lambda _: None
        self.page: Answer | None = None  # the answer to all requests
        self._server: ThreadingHTTPServer | None = None

    def up(self) -> None:
        """Listen."""
        graph = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                chat, text = body["to"].lstrip("+"), body["text"]["body"]
                graph.tried.append(text)
                if answer := graph.page or graph.refuse(text):
                    return self._say(*answer)
                graph.received.append((chat, text))
                if text.startswith("cut"):
                    self.close_connection = True
                    return None
                return self._say(200, json.dumps({"messages": [{"id": f"wamid.{text}"}]}).encode())

            def do_GET(self) -> None:
                graph.asked += 1
                self._say(*(graph.page or (200, b'{"id": "1"}')))

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")  # so that nothing listens once it is down
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def down(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class OutageStage(Stage):
    """The stage of the delivery tests, with Meta's connector and `Graph`."""

    def __init__(self, dsn: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(dsn, folder, monkeypatch)
        monkeypatch.setattr(channel, "SWEEP_INTERVAL_SECONDS", SWEEP_INTERVAL_SECONDS)
        self.graph = Graph()
        self.settings = self.settings.copy_with(meta_graph_url=self.graph.url, meta_backoff_ms=50)
        self.connector = MetaConnector(self.settings)

    def sender(
        self, instance: str = "meta-worker-1", run: str = "run1", connector: Connector | None = None,
        pauses: Pauses = FAST,
    ) -> Channel:  # fmt: skip
        tuning = replace(tuned_for_meta(self.settings), pauses=pauses)
        sender = Channel(
            self.settings, self.database, self.directory, connector or self.connector, incoming.parse, tuning,
            instance, run,
        )  # fmt: skip
        self.senders.append(sender)
        sender.start()
        return sender

    def close(self) -> None:
        self.graph.down()
        super().close()
