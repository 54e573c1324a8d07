"""A customer's webhook receiver, and a company whose events go there."""

import contextlib
import hashlib
import hmac
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

from services.events.sender import EventSender
from tests.support.outbox import execute

SECRET = "a secret of the customer's"


class Customer:
    """Takes webhooks and answers each with what `answer(call)` says: a status, or None to close the connection."""

    def __init__(self, answer=lambda call: 200):
        self.answer, self.calls = answer, []
        self.page = b""  # the body of its answers
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                call = Call(self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers))
                outer.calls.append(call)
                call.status = outer.answer(call)
                if call.status is None:
                    self.close_connection = True
                    return
                self.send_response(call.status)
                self.send_header("Content-Length", str(len(outer.page)))
                self.end_headers()
                with contextlib.suppress(OSError):  # a caller that has read enough closes
                    self.wfile.write(outer.page)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def taken(self):
        """The calls that were answered with 200."""
        return [call for call in list(self.calls) if call.status == 200]

    def told(self):
        """The numbers of the events that each chat's calls told of, in the order in which they were taken."""
        found = defaultdict(list)
        for call in self.taken:
            found[call.event["payload"]["chatId"]].append(call.event["payload"]["number"])
        return dict(found)

    def ids(self):
        """Every id under which an event was told, by chat and number; those of refused calls too."""
        found = defaultdict(set)
        for call in list(self.calls):
            found[call.event["payload"]["chatId"], call.event["payload"]["number"]].add(call.event["id"])
        return found

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Call:
    """One call of a webhook."""

    def __init__(self, body, headers):
        self.body, self.headers, self.status, self.at = body, headers, None, time.monotonic()
        self.event = orjson.loads(body)

    def signed_with(self, secret, header="X-Webhook-Hmac"):
        return self.headers.get(header) == hmac.new(secret.encode(), self.body, hashlib.sha512).hexdigest()


def raise_events(connection, *numbers, company="0128", chats=("60123456789",), name="message", session=None, **more):
    """For each number one event of each chat; `more` is in the payloads as well."""
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
    """Senders that end with the test."""

    def __init__(self, settings, database):
        self._settings, self._database, self._started = settings, database, []

    def start(self, instance="events", run="run1"):
        sender = EventSender(self._settings, self._database, instance, run)
        sender.start()
        self._started.append(sender)
        return sender

    def close(self):
        for sender in self._started:
            sender.stop(5)
