"""A client of the Chrome DevTools Protocol: requests and events of one page over a web socket."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import websocket

from services.connectors.wwebjs.browser.session_clock import clock

#: The limit to connect and to write a request, and the default limit for an answer.
REQUEST_TIMEOUT_SECONDS = 10.0
#: The pause between two looks for Chromium's page.
FIND_PAGE_PAUSE_SECONDS = 0.02

Message = dict[str, Any]


class ConnectionLost(Exception):
    """The connection broke; it is unknown whether the request was carried out."""


class RequestTimeout(Exception):
    """No answer in time; the request may still be carried out."""


class RequestRefused(Exception):
    """Chromium refused the request; the text is its own."""


def find_page(port: int, deadline: float) -> str:
    """The id of the page of the Chromium at this port. Raises `ConnectionLost`."""
    until = clock.now() + deadline
    while True:
        try:
            for target in _targets(port, clock.stretched(max(until - clock.now(), 0.1))):
                if target.get("type") == "page":
                    return str(target["id"])
            reason = "it has no page"
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(error)
        if clock.now() >= until:
            raise ConnectionLost(f"Chromium cannot be driven: {reason}")
        time.sleep(FIND_PAGE_PAUSE_SECONDS)


def _targets(port: int, seconds: float) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    with contextlib.closing(connection):
        connection.request("GET", "/json/list")
        targets: list[dict[str, Any]] = json.loads(connection.getresponse().read())
        return targets


class Connection:
    """An answer goes to the thread that made the request, an event to `on_event`."""

    def __init__(self, port: int, page: str, on_event: "Callable[[Connection, str, Message], None]") -> None:
        """`on_event` is called with an event's name and parameters, in the thread that runs `read`.

        Raises `ConnectionLost`.
        """
        address = f"ws://127.0.0.1:{port}/devtools/page/{page}"
        try:
            self._socket = websocket.create_connection(
                address,
                timeout=clock.stretched(REQUEST_TIMEOUT_SECONDS),
                suppress_origin=True,
                enable_multithread=True,
                http_no_proxy=["*"],
                skip_utf8_validation=True,
            )
        except (OSError, websocket.WebSocketException) as error:
            raise ConnectionLost(f"Chromium does not accept a connection: {error}") from error
        self._on_event = on_event
        self._changed = threading.Condition(threading.RLock())
        self._number = 0
        self._callbacks: dict[int, Callable[[Message], None]] = {}
        self.broken: str | None = None

    def read(self) -> str:
        """Read messages until the connection breaks; returns why it broke."""
        while self.broken is None:
            try:
                if message := self._socket.recv():
                    self._dispatch(json.loads(message))
                else:
                    self._break("Chromium closed it")
            except websocket.WebSocketTimeoutException:
                continue  # no message for a while; the part of a message that was read is kept
            except (OSError, ValueError, ConnectionLost, websocket.WebSocketException) as error:
                self._break(str(error) or type(error).__name__)
        return self.broken

    def request(self, method: str, deadline: float = REQUEST_TIMEOUT_SECONDS, **parameters: Any) -> Message:
        """Chromium's answer within `deadline` seconds.

        Raises `RequestTimeout`, `RequestRefused` and `ConnectionLost`.
        """
        answers: list[Message] = []
        number = self.send(method, answers.append, **parameters)
        with self._changed:
            self._changed.wait_for(lambda: answers or self.broken is not None, clock.stretched(deadline))
            self._callbacks.pop(number, None)
        if not answers:
            raise (
                ConnectionLost(self.broken)
                if self.broken
                else RequestTimeout(f"no answer to {method} in {deadline:g} s")
            )
        if "error" in answers[0]:
            raise RequestRefused(f"{method}: {answers[0]['error'].get('message')}")
        found: Message = answers[0]["result"]
        return found

    def send(self, method: str, callback: Callable[[Message], None] | None = None, **parameters: Any) -> int:
        """Send a request without waiting, and return its number. Raises `ConnectionLost`.

        `callback`: called with the answer, in the thread that runs `read`.
        """
        with self._changed:
            self._number = number = self._number + 1
            if callback:
                self._callbacks[number] = callback
        try:
            self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        except (OSError, websocket.WebSocketException) as error:
            self._break(str(error) or type(error).__name__)
            raise ConnectionLost(str(error)) from error
        return number

    def close(self) -> None:
        """Close the connection; `read` returns."""
        self._break("the connection was closed")
        opened = self._socket.sock  # None if the library noticed that it broke
        with contextlib.suppress(OSError):
            if opened is not None:
                opened.shutdown(socket.SHUT_RDWR)  # ends the other thread's wait, which close() alone does not
                opened.close()

    def _dispatch(self, message: Message) -> None:
        if "method" in message:
            self._on_event(self, message["method"], message.get("params", {}))
            return
        with self._changed:
            callback = self._callbacks.pop(message["id"], None)
            if callback:
                callback(message)
            self._changed.notify_all()

    def _break(self, reason: str) -> None:
        with self._changed:
            self.broken = self.broken or reason
            self._changed.notify_all()
