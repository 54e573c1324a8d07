"""A provider for tests of delivery: an HTTP server that the texts of messages control."""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from services.http_exchange import HttpRequest
from services.message import Bot, Held, Outcome, Outgoing, Rejected, Retry, Sent, Status, StatusUpdate, Unknown, Update
from tests.support.waiting import HANG_SECONDS

#: The phone number id in its status reports: the first bot's.
NUMBER = "1001280"
OUTCOMES: Mapping[int, Callable[[str], Outcome]] = {
    200: lambda text: Sent(f"id of {text}"),
    400: lambda text: Rejected("100", "refused"),
    401: lambda text: Held("190", "token expired"),
    503: lambda text: Retry("2", "busy"),
}


class Provider:
    """Records the texts that it accepted.

    A text `status:N …` is answered with this status; `cut …` is accepted without an answer; `hang …` waits until the
    event `hanging` is set.
    """

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []  # (chat, text)
        self.waiting: list[str] = []  # texts that began to wait for `hanging`
        self.delay = 0.0
        self.healed = False  # whether `status:N` is answered with 200 nevertheless
        self.hanging = threading.Event()
        self.hanging.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(outer.delay)
                outer._serve(self, body["chat"], body["text"])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/send"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _serve(self, handler: BaseHTTPRequestHandler, chat: str, text: str) -> None:
        if text.startswith("hang"):
            self.waiting.append(text)
            self.hanging.wait(2 * HANG_SECONDS)
        status = 200 if self.healed or not text.startswith("status:") else int(text[7:10])
        if status == 200:
            self.received.append((chat, text))
        if text.startswith("cut"):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        answer = json.dumps({"text": text[:100]}).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class ProviderConnector:
    """The connector to `Provider`."""

    process_name = "meta"

    def __init__(self, url: str) -> None:
        self.url = url

    def request(self, bot: Bot, message: Outgoing) -> HttpRequest:
        body = json.dumps({"chat": message.chat_id, "text": message.payload["message"]}).encode()
        return HttpRequest(self.url, (f"Authorization: {bot.access_token.value}",), body)

    def probe(self, bot: Bot, outage: str) -> None:
        """The next message serves as the check."""

    def outcome(self, message: Outgoing, status: int, body: bytes) -> Outcome:
        outcome = OUTCOMES.get(status)
        return outcome(json.loads(body)["text"]) if outcome else Unknown("nonsense")


def parse(body: bytes) -> list[Update]:
    """The status reports in a webhook of `Provider`."""
    return [StatusUpdate(each["id"], Status(each["status"]), 1.0, number=NUMBER) for each in json.loads(body)]
