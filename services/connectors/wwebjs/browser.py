"""A session's browser: one Chromium of ours, its driver, and the connection over which the page tells what happens."""

import contextlib
import json
import queue
import threading
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from bisnesctl import wajs
from bisnesctl.settings import Settings
from services.connectors.wwebjs import cdp, chromium
from services.connectors.wwebjs.chromium import Program, StartFailed
from services.connectors.wwebjs.driver import Driver, DriverLost
from services.connectors.wwebjs.events import Feed, Lost, PageEvent
from services.connectors.wwebjs.page import Page, PageLost

#: Seconds for Chromium to launch, and for its connection to be made anew.
LAUNCH, RECONNECT = 30.0, 10.0
#: The function through which the page tells us things.
_BINDING = "__waTell"
#: No beacons to third parties, and no questions to servers that make previews of links.
_CONFIG = "window.WPPConfig = {disableGoogleAnalytics: true, linkPreviewApiServers: [], deviceName: false};"
#: What Chromium says when the page's process is gone.
_GONE = {
    "Inspector.targetCrashed": "the page crashed",
    "Inspector.detached": "the page was closed",
}


@dataclass(frozen=True, slots=True)
class BrowserOptions:
    """What to launch, and for which page."""

    profile: Path  # the folder in which the browser keeps what it must remember
    url: str
    bundle: Path  # of wa-js
    chrome: Path | None = None  # None: the one that is installed
    driver: Path | None = None
    arguments: tuple[str, ...] = ()  # further ones of Chromium

    @classmethod
    def from_settings(cls, settings: Settings, profile: Path) -> Self:
        """As configured. Raises `ConfigError` where there is no bundle of wa-js."""
        further = tuple(each.strip() for each in settings.chrome_args.split(",") if each.strip())
        bundle = wajs.bundle(settings)
        return cls(profile, settings.whatsapp_url, bundle, settings.chrome_path, settings.chromedriver_path, further)


class Browser:
    """Launched once and driven by one thread, which must live as long: Chromium ends with it.

    A browser that was lost is killed, and another one made.
    """

    def __init__(self, options: BrowserOptions) -> None:
        """Nothing is started yet."""
        self.events: queue.Queue[PageEvent | Lost] = queue.Queue()
        self.lost: str | None = None
        self._options = options
        self._feed = Feed(self.events)
        self._closing = False
        self._lock = threading.Lock()

    def launch(self, deadline: float = LAUNCH) -> None:
        """Start Chromium and its driver; the page is opened by `open`.

        Raises `ProgramMissing`, `StartFailed` and `OSError`; nothing runs then.
        """
        until = time.monotonic() + deadline
        options = self._options
        executable = chromium.find_driver(options.driver)
        self._preload = _preload(options)
        self._program = chromium.launch(chromium.find_chromium(options.chrome), options.profile, options.arguments)
        try:
            self._port = chromium.debugger_port(self._program, options.profile, deadline)
            self._target = cdp.find_page(self._port, max(until - time.monotonic(), 1))
            self._driver = Driver(executable, self._port, options.profile / "chromedriver.log")
            self._connect()
            self._driver.attach(max(until - time.monotonic(), 1))
        except (cdp.ConnectionLost, cdp.NoAnswer, cdp.Refused, DriverLost) as error:
            self.kill()
            raise StartFailed(str(error)) from error
        except StartFailed:
            self.kill()
            raise
        self.page = Page(self._driver, lambda: self._connection, lambda: self.lost)

    def open(self, deadline: float = LAUNCH) -> None:
        """Load WhatsApp Web. Raises `CallFailed` where it cannot be reached, `CallTimeout` and `PageLost`."""
        self.page.open(self._options.url, deadline)

    def reload(self, deadline: float = LAUNCH) -> None:
        """Load it anew: the page begins another life. Raises like `open`."""
        self.open(deadline)

    def reattach(self) -> None:
        """Another driver in place of one that died; a call does so by itself. Raises `PageLost`."""
        try:
            self._driver.attach()
        except DriverLost as error:
            raise PageLost(self.lost or str(error)) from error

    def acknowledge(self, boot: str, seq: int) -> None:
        """Let the page forget the events of that life up to `seq`; any thread may say so. Never fails."""
        with contextlib.suppress(cdp.ConnectionLost):
            said = f"window.__wa?.ack({json.dumps(boot)}, {seq})"
            self._connection.tell("Runtime.evaluate", expression=said, returnByValue=True)

    @property
    def pid(self) -> int:
        """Of Chromium."""
        return self._program.pid

    @property
    def driver_pid(self) -> int | None:
        """Of its driver, while there is one."""
        return self._driver.pid

    @property
    def driver_alive(self) -> bool:
        """Whether the driver is there; the next call attaches another one where it is not."""
        return self._driver.alive

    def memory(self) -> int:
        """Bytes of Chromium and all its processes, of shared pages its share (PSS)."""
        return self._program.memory()

    def close(self, deadline: float = 10.0) -> None:
        """End it so that nothing of the profile is lost; by force after `deadline` seconds."""
        self._closing = True
        until = time.monotonic() + deadline
        with contextlib.suppress(cdp.ConnectionLost):
            self._connection.tell("Browser.close")
        if not self._program.wait(deadline / 2):
            self._program.terminate()
            self._program.wait(until - time.monotonic())
        self.kill()

    def kill(self) -> None:
        """End everything at once; nothing of it runs when this returns. May be called at any time, and twice."""
        self._closing = True
        self._lose("the browser was closed")
        if driver := getattr(self, "_driver", None):
            driver.kill()
        if program := getattr(self, "_program", None):
            program.kill()
        if connection := getattr(self, "_connection", None):
            connection.close()

    # --- The connection ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        connection = cdp.Connection(self._port, self._target, self._told)
        self._feed.hold()
        threading.Thread(target=self._read, args=(connection,), name="page-events", daemon=True).start()
        try:
            for method, parameters in self._registrations():
                connection.ask(method, **parameters)
            self._ask_for_missed(connection)
        except (cdp.ConnectionLost, cdp.NoAnswer, cdp.Refused):
            connection.close()
            raise
        with self._lock:
            if connection.broken:
                raise cdp.ConnectionLost(connection.broken)
            self._connection = connection

    def _registrations(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("Inspector.enable", {}),
            ("Page.enable", {}),
            ("Runtime.enable", {}),
            ("Runtime.addBinding", {"name": _BINDING}),
            ("Page.addScriptToEvaluateOnNewDocument", {"source": self._preload}),
        ]

    def _read(self, connection: cdp.Connection) -> None:
        reason = connection.read()
        with self._lock:
            ours = connection is getattr(self, "_connection", None)
        if not ours or self._closing or self.lost:
            return
        until = time.monotonic() + RECONNECT
        while time.monotonic() < until and not self._closing and self._program.alive:
            try:
                return self._connect()
            except (cdp.ConnectionLost, cdp.NoAnswer, cdp.Refused):
                time.sleep(0.05)
        ended = self._program.end
        self._lose(f"Chromium ended with {ended}" if ended else f"the connection to Chromium broke: {reason}")

    def _told(self, connection: cdp.Connection, what: str, parameters: cdp.Message) -> None:
        if what in _GONE:
            self._lose(_GONE[what])
        elif what == "Runtime.bindingCalled" and parameters["name"] == _BINDING:
            if self._feed.take(parameters["payload"]):
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
            self.events.put(Lost(reason))


def _preload(options: BrowserOptions) -> str:
    """What is run in the page before anything of its own; in no other page, and in no frame of it."""
    address = urlsplit(options.url)
    origin = json.dumps(f"{address.scheme}://{address.netloc}")
    files = resources.files(__package__)
    parts = (options.bundle.read_text("utf-8"), *(files.joinpath(name).read_text("utf-8") for name in _SCRIPTS))
    body = "\n;".join(parts)
    return f"(() => {{ if (window !== window.top || location.origin !== {origin}) return;\n{_CONFIG}\n{body}\n}})();"


_SCRIPTS = ("messages.js", "bridge.js")
