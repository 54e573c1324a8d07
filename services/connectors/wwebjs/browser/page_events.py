"""The page's events, each once and in order, over a DevTools connection that reconnects without losing any."""

import contextlib
import json
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

from services.connectors.wwebjs.browser import cdp
from services.connectors.wwebjs.browser.chromium import Program
from services.connectors.wwebjs.browser.session_clock import clock

#: How long the connection may take to reconnect.
RECONNECT_TIMEOUT_SECONDS = 10.0
#: The pause between two attempts to reconnect.
RECONNECT_PAUSE_SECONDS = 0.05
#: The function with which the page passes an event to us.
_BINDING = "__waEmit"
#: Chromium's events when the page's process is gone.
_GONE = {"Inspector.targetCrashed": "the page crashed", "Inspector.detached": "the page was closed"}
_BROKEN = (cdp.ConnectionLost, cdp.RequestTimeout, cdp.RequestRefused)


@dataclass(frozen=True, slots=True)
class PageEvent:
    """An event in the page."""

    boot: str  # identifies one load of the page
    seq: int  # its number within that load, from 1
    at: float  # seconds since the epoch
    name: str  # that of wa-js, or `bridge.loaded` for a load of the page, or `bridge.missed` for a gap
    data: Any  # JSON


@dataclass(frozen=True, slots=True)
class Lost:
    """The page or its browser is gone permanently: another browser must be launched."""

    reason: str


#: The events of a page in their order; None ends the wait of the thread that takes them.
EventQueue = queue.Queue[PageEvent | Lost | None]


class Feed:
    """Puts events into order. Only one thread at a time may use it."""

    def __init__(self, events: EventQueue) -> None:
        """`events` receives them."""
        self._events = events
        self.position = ("", 0)  # the load of the page, and the number of its last event
        self._held: list[PageEvent] | None = None

    def hold(self) -> None:
        """Keep new events until `release` passes on the missed ones."""
        self._held = self._held or []

    def take(self, payload: str) -> bool:
        """Accept an event as JSON; returns whether events before it are missing, so that the page must be asked."""
        event = _event(json.loads(payload))
        if self._held is None and event.seq <= self._last(event) + 1:
            self._pass(event)
            return False
        asked_already = self._held is not None
        self._held = [*(self._held or []), event]
        return not asked_already

    def release(self, missed: list[dict[str, Any]]) -> None:
        """Pass on the events of the current load that were `missed`, then those that were kept meanwhile."""
        held, self._held = self._held or [], None
        found = [_event(each) for each in missed]
        earlier = [each for each in held if found and each.boot != found[0].boot]
        later = [each for each in held if each not in earlier]
        for event in [*earlier, *found, *later]:
            self._pass(event)

    def _last(self, event: PageEvent) -> int:
        """The number of the last event of the same load that was passed on."""
        boot, seq = self.position
        return seq if event.boot == boot else 0

    def _pass(self, event: PageEvent) -> None:
        last = self._last(event)
        if event.seq <= last:
            return
        if event.seq > last + 1:
            missed = {"count": event.seq - 1 - last}
            self._events.put(PageEvent(event.boot, event.seq - 1, event.at, "bridge.missed", missed))
        self.position = (event.boot, event.seq)
        self._events.put(event)


def _event(fields: dict[str, Any]) -> PageEvent:
    return PageEvent(fields["boot"], fields["seq"], fields["at"], fields["name"], fields["data"])


class EventConnection:
    """Puts the page's events into a queue, and `Lost` once the page is gone permanently."""

    def __init__(self, program: Program, port: int, preload: str, events: EventQueue, deadline: float) -> None:
        """Connect to the page of a Chromium at this port within `deadline` seconds.

        `preload` runs in every page before its own scripts. Raises `ConnectionLost`, `RequestTimeout` and
        `RequestRefused` of `cdp`.
        """
        self.lost: str | None = None
        self._program = program
        self._port = port
        self._preload = preload
        self._events = events
        self._feed = Feed(events)
        self._lock = threading.Lock()
        self._closing = False
        self._target = cdp.find_page(port, deadline)
        self._connection: cdp.Connection | None = None
        self._connect()

    @property
    def connection(self) -> cdp.Connection:
        """The current connection. Raises `ConnectionLost`."""
        if self._connection is None:
            raise cdp.ConnectionLost("there is no connection to Chromium")
        return self._connection

    def acknowledge(self, boot: str, seq: int) -> None:
        """Let the page drop the events of this load up to `seq`. Never fails."""
        with contextlib.suppress(cdp.ConnectionLost):
            expression = f"window.__wa?.ack({json.dumps(boot)}, {seq})"
            self.connection.send("Runtime.evaluate", expression=expression, returnByValue=True)

    def expect_end(self) -> None:
        """From now on, the end of the page is not reported as a loss."""
        self._closing = True

    def close(self) -> None:
        """Close the connection and report no further events."""
        self.expect_end()
        self._lose("the browser was closed")
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> None:
        connection = cdp.Connection(self._port, self._target, self._on_event)
        self._feed.hold()
        threading.Thread(target=self._read, args=(connection,), name="page-events", daemon=True).start()
        try:
            self._register(connection)
        except _BROKEN:
            connection.close()
            raise
        with self._lock:
            if connection.broken:
                raise cdp.ConnectionLost(connection.broken)
            self._connection = connection

    def _register(self, connection: cdp.Connection) -> None:
        for area in ("Inspector", "Page", "Runtime"):
            connection.request(f"{area}.enable")
        connection.request("Runtime.addBinding", name=_BINDING)
        connection.request("Page.addScriptToEvaluateOnNewDocument", source=self._preload)
        self._request_missed(connection)

    def _read(self, connection: cdp.Connection) -> None:
        """The loop of a thread, one for each connection."""
        reason = connection.read()
        with self._lock:
            was_in_use = connection is self._connection
        if was_in_use and not self._reconnect():
            ended = self._program.end
            self._lose(f"Chromium ended with {ended}" if ended else f"the connection to Chromium broke: {reason}")

    def _reconnect(self) -> bool:
        until = clock.now() + RECONNECT_TIMEOUT_SECONDS
        while clock.now() < until and not self._closing and self._program.alive:
            try:
                self._connect()
            except _BROKEN:
                time.sleep(RECONNECT_PAUSE_SECONDS)
            else:
                return True
        return False

    def _on_event(self, connection: cdp.Connection, name: str, parameters: cdp.Message) -> None:
        if name in _GONE:
            self._lose(_GONE[name])
        elif name != "Runtime.bindingCalled" or parameters["name"] != _BINDING:
            return
        elif self._feed.take(parameters["payload"]):
            self._request_missed(connection)

    def _request_missed(self, connection: cdp.Connection) -> None:
        boot, seq = self._feed.position
        expression = f"window.__wa?.since({json.dumps(boot)}, {seq})"
        connection.send("Runtime.evaluate", self._take_missed, expression=expression, returnByValue=True)

    def _take_missed(self, answer: cdp.Message) -> None:
        self._feed.release(answer.get("result", {}).get("result", {}).get("value") or [])

    def _lose(self, reason: str) -> None:
        with self._lock:
            if self.lost is not None:
                return
            self.lost = reason
        if not self._closing:
            self._events.put(Lost(reason))
