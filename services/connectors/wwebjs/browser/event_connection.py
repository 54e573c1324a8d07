"""Over which the page tells what happens: our own connection to it, made anew when it breaks, without loss."""

import contextlib
import json
import queue
import threading
import time

from services.connectors.wwebjs.browser import cdp
from services.connectors.wwebjs.browser.chromium import Program
from services.connectors.wwebjs.browser.page_events import Feed, Lost, PageEvent
from services.connectors.wwebjs.browser.session_clock import clock

#: Seconds for the connection to be made anew.
RECONNECT = 10.0
#: The function through which the page tells us things.
_BINDING = "__waTell"
#: What Chromium says when the page's process is gone.
_GONE = {"Inspector.targetCrashed": "the page crashed", "Inspector.detached": "the page was closed"}
_BROKEN = (cdp.ConnectionLost, cdp.NoAnswer, cdp.Refused)


class EventConnection:
    """Puts what the page tells into `events`, in its order and once, and `Lost` when the page is gone for good."""

    def __init__(
        self, program: Program, port: int, preload: str, events: "queue.Queue[PageEvent | Lost]", deadline: float
    ) -> None:
        """Connect to the page of a Chromium at this port within `deadline` seconds.

        `preload` is run in every page that is loaded, before anything of its own. Raises `ConnectionLost`, `NoAnswer`
        and `Refused` of `cdp`.
        """
        self.lost: str | None = None
        self._program, self._port, self._preload, self._events = program, port, preload, events
        self._feed = Feed(events)
        self._lock = threading.Lock()
        self._closing = False
        self._target = cdp.find_page(port, deadline)
        self._connection: cdp.Connection | None = None
        self._connect()

    @property
    def connection(self) -> cdp.Connection:
        """The connection there is. Raises `ConnectionLost`."""
        if self._connection is None:
            raise cdp.ConnectionLost("there is no connection to Chromium")
        return self._connection

    def acknowledge(self, boot: str, seq: int) -> None:
        """Let the page forget the events of that life up to `seq`. Never fails."""
        with contextlib.suppress(cdp.ConnectionLost):
            said = f"window.__wa?.ack({json.dumps(boot)}, {seq})"
            self.connection.tell("Runtime.evaluate", expression=said, returnByValue=True)

    def expect_end(self) -> None:
        """From now on, the end is no loss to speak of."""
        self._closing = True

    def close(self) -> None:
        """Hear nothing any more."""
        self.expect_end()
        self._lose("the browser was closed")
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> None:
        connection = cdp.Connection(self._port, self._target, self._told)
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
            connection.ask(f"{area}.enable")
        connection.ask("Runtime.addBinding", name=_BINDING)
        connection.ask("Page.addScriptToEvaluateOnNewDocument", source=self._preload)
        self._ask_for_missed(connection)

    def _read(self, connection: cdp.Connection) -> None:
        """Runs in a thread of its own, another one for each connection."""
        reason = connection.read()
        with self._lock:
            was_in_use = connection is self._connection
        if was_in_use and not self._reconnect():
            ended = self._program.end
            self._lose(f"Chromium ended with {ended}" if ended else f"the connection to Chromium broke: {reason}")

    def _reconnect(self) -> bool:
        until = clock.now() + RECONNECT
        while clock.now() < until and not self._closing and self._program.alive:
            try:
                self._connect()
            except _BROKEN:
                time.sleep(0.05)
            else:
                return True
        return False

    def _told(self, connection: cdp.Connection, what: str, parameters: cdp.Message) -> None:
        if what in _GONE:
            self._lose(_GONE[what])
        elif what != "Runtime.bindingCalled" or parameters["name"] != _BINDING:
            return
        elif self._feed.take(parameters["payload"]):
            self._ask_for_missed(connection)

    def _ask_for_missed(self, connection: cdp.Connection) -> None:
        boot, seq = self._feed.position
        asked = f"window.__wa?.since({json.dumps(boot)}, {seq})"
        connection.tell("Runtime.evaluate", self._take_missed, expression=asked, returnByValue=True)

    def _take_missed(self, answer: cdp.Message) -> None:
        self._feed.release(answer.get("result", {}).get("result", {}).get("value") or [])

    def _lose(self, reason: str) -> None:
        with self._lock:
            if self.lost is not None:
                return
            self.lost = reason
        if not self._closing:
            self._events.put(Lost(reason))
