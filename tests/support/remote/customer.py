"""A customer's webhook receiver, and a company whose events go there."""

import contextlib
import hashlib
import hmac
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from bisnesctl.settings import Settings
from services.database.connection import Connection, Database
from services.events.sender import EventSender
from tests.support.outbox import execute

SECRET = "a secret of the customer's"


class Customer:
    """Receives webhooks. `answer(call)` returns the status to answer with, or None to close the connection."""

    def __init__(self, answer: "Callable[[Call], int | None]" = lambda call: 200) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.page = b""  # the body of its answers
        self.repeats_page: float | None = None  # seconds before the page is sent again, for ever
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                call = Call(self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers))
                outer.calls.append(call)
                call.status = outer.answer(call)
                if call.status is None:
                    self.close_connection = True
                    return
                self.send_response(call.status)
                with contextlib.suppress(OSError):  # a caller that has read enough closes
                    self._send_page() if outer.repeats_page is None else self._send_for_ever(outer.repeats_page)

            def _send_page(self) -> None:
                self.send_header("Content-Length", str(len(outer.page)))
                self.end_headers()
                self.wfile.write(outer.page)

            def _send_for_ever(self, pause: float) -> None:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while True:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(outer.page), outer.page))
                    time.sleep(pause)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def taken(self) -> "list[Call]":
        """The calls that were answered with 200."""
        return [call for call in list(self.calls) if call.status == 200]

    def told(self) -> dict[str, list[int]]:
        """The numbers of the delivered events of each chat, in the order of delivery."""
        found = defaultdict(list)
        for call in self.taken:
            found[call.event["payload"]["chatId"]].append(call.event["payload"]["number"])
        return dict(found)

    def ids(self) -> dict[tuple[str, int], set[str]]:
        """The ids of an event in all calls, refused ones included, by chat and number."""
        found = defaultdict(set)
        for call in list(self.calls):
            found[call.event["payload"]["chatId"], call.event["payload"]["number"]].add(call.event["id"])
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Call:
    """One call of a webhook."""

    def __init__(self, body: bytes, headers: dict[str, str]) -> None:
        self.body = body
        self.headers = headers
        self.status: int | None = None
        self.at = time.monotonic()
        self.event: dict[str, Any] = orjson.loads(body)

    def signed_with(self, secret: str, header: str = "X-Webhook-Hmac") -> bool:
        return self.headers.get(header) == hmac.new(secret.encode(), self.body, hashlib.sha512).hexdigest()


def raise_events(
    connection: Connection, *numbers: int, company: str = "0128", chats: Sequence[str] = ("60123456789",),
    name: str = "message", session: str | None = None, **more: Any,
) -> None:  # fmt: skip
    """Raise one event of each chat for each number. `more` is added to the payloads."""
    events = [
        {
            "company": company,
            "session": session or f"{company}-0",
            "event": name,
            "chat": chat,
            "payload": {"chatId": chat, "number": number} | more,
        }
        for number in numbers
        for chat in chats
    ]
    execute(connection, "SELECT raise_events(%s)", (orjson.dumps(events).decode(),))


class Senders:
    """Event senders that `close` stops at the end of a test."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._started: list[EventSender] = []

    def start(self, instance: str = "events", run: str = "run1") -> EventSender:
        sender = EventSender(self._settings, self._database, instance, run)
        sender.start()
        self._started.append(sender)
        return sender

    def close(self) -> None:
        for sender in self._started:
            sender.stop(5)
