"""A connection of our own to Chromium's page: the DevTools protocol over a web socket."""

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

#: Seconds to connect, to hand a request over, and for an answer unless told otherwise.
PATIENCE = 10.0


Message = dict[str, Any]


class ConnectionLost(Exception):
    """The connection broke; whether what was asked happened is unknown."""


class NoAnswer(Exception):
    """There was no answer in time; it may come to happen yet."""


class Refused(Exception):
    """Chromium says no; the text is its own."""


def find_page(port: int, deadline: float) -> str:
    """The id of the page that a Chromium at this port has. Raises `ConnectionLost`."""
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
        time.sleep(0.02)


def _targets(port: int, seconds: float) -> list[dict[str, Any]]:
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    with contextlib.closing(asked):
        asked.request("GET", "/json/list")
        found: list[dict[str, Any]] = json.loads(asked.getresponse().read())
        return found


class Connection:
    """Requests are answered to the thread that makes them; what Chromium tells by itself goes to `told`."""

    def __init__(self, port: int, page: str, told: "Callable[[Connection, str, Message], None]") -> None:
        """`told` is called by the thread that runs `read`, with what happened and its parameters.

        Raises `ConnectionLost`.
        """
        address = f"ws://127.0.0.1:{port}/devtools/page/{page}"
        try:
            self._socket = websocket.create_connection(
                address, timeout=clock.stretched(PATIENCE), suppress_origin=True, enable_multithread=True,
                http_no_proxy=["*"], skip_utf8_validation=True,
            )  # fmt: skip
        except (OSError, websocket.WebSocketException) as error:
            raise ConnectionLost(f"Chromium does not take a connection: {error}") from error
        self._told = told
        self._changed = threading.Condition(threading.RLock())
        self._number = 0
        self._takers: dict[int, Callable[[Message], None]] = {}
        self.broken: str | None = None

    def read(self) -> str:
        """Take what Chromium says until the connection breaks; returns why it did."""
        while self.broken is None:
            try:
                if message := self._socket.recv():
                    self._take(json.loads(message))
                else:
                    self._break("Chromium closed it")
            except websocket.WebSocketTimeoutException:
                continue  # nothing was said for a while; what has come of a message is kept
            except (OSError, ValueError, ConnectionLost, websocket.WebSocketException) as error:
                self._break(str(error) or type(error).__name__)
        return self.broken

    def ask(self, method: str, deadline: float = PATIENCE, **parameters: Any) -> Message:
        """The answer of Chromium within `deadline` seconds. Raises `NoAnswer`, `Refused` and `ConnectionLost`."""
        answers: list[Message] = []
        number = self.tell(method, answers.append, **parameters)
        with self._changed:
            self._changed.wait_for(lambda: answers or self.broken is not None, clock.stretched(deadline))
            self._takers.pop(number, None)
        if not answers:
            raise ConnectionLost(self.broken) if self.broken else NoAnswer(f"no answer to {method} in {deadline:g} s")
        if "error" in answers[0]:
            raise Refused(f"{method}: {answers[0]['error'].get('message')}")
        found: Message = answers[0]["result"]
        return found

    def tell(self, method: str, taker: Callable[[Message], None] | None = None, **parameters: Any) -> int:
        """Ask without waiting and return the number of the request. Raises `ConnectionLost`.

        `taker`: takes the answer, in the thread that runs `read`.
        """
        with self._changed:
            self._number = number = self._number + 1
            if taker:
                self._takers[number] = taker
        try:
            self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        except (OSError, websocket.WebSocketException) as error:
            self._break(str(error) or type(error).__name__)
            raise ConnectionLost(str(error)) from error
        return number

    def close(self) -> None:
        """Close it; `read` returns."""
        self._break("it was closed")
        opened = self._socket.sock  # the library forgets one that broke
        with contextlib.suppress(OSError):
            if opened is not None:
                opened.shutdown(socket.SHUT_RDWR)  # which ends the other thread's wait, as closing does not
                opened.close()

    def _take(self, message: Message) -> None:
        if "method" in message:
            self._told(self, message["method"], message.get("params", {}))
            return
        with self._changed:
            taker = self._takers.pop(message["id"], None)
            if taker:
                taker(message)
            self._changed.notify_all()

    def _break(self, reason: str) -> None:
        with self._changed:
            self.broken = self.broken or reason
            self._changed.notify_all()
