"""A session's browser: one Chromium of ours, its driver, and the wire over which the page tells what happens."""

import contextlib
import json
import queue
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from bisnesctl import wajs
from bisnesctl.settings import Settings
from services.connectors.wwebjs.browser import cdp, chromium
from services.connectors.wwebjs.browser.chromium import Program, StartFailed
from services.connectors.wwebjs.browser.driver import Driver, DriverLost
from services.connectors.wwebjs.browser.event_connection import EventConnection
from services.connectors.wwebjs.browser.page import Page, PageLost
from services.connectors.wwebjs.browser.page_events import Lost, PageEvent
from services.connectors.wwebjs.browser.session_clock import clock

#: Seconds for Chromium to launch, and for a page to load.
LAUNCH, LOAD = 30.0, 60.0
#: No beacons to third parties, and no questions to servers that make previews of links.
_CONFIG = "window.WPPConfig = {disableGoogleAnalytics: true, linkPreviewApiServers: [], deviceName: false};"
_SCRIPTS = ("messages.js", "bridge.js")


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


def _ignore(_name: str, _deadline: float) -> None:
    """Where nobody watches the owner."""


class Browser:
    """Launched once and driven by one thread, which must live as long: Chromium ends with it.

    A browser that was lost is killed, and another one made.
    """

    def __init__(self, options: BrowserOptions, begin: Callable[[str, float], None] = _ignore) -> None:
        """Nothing is started yet. `begin`: told what the owner is about to do, and its deadline in seconds."""
        self.events: queue.Queue[PageEvent | Lost] = queue.Queue()
        self._options, self._begin = options, begin
        self._program: Program | None = None
        self._wire: EventConnection | None = None
        self._driver: Driver | None = None
        self._page: Page | None = None

    def launch(self, deadline: float = LAUNCH) -> None:
        """Start Chromium and its driver within `deadline` seconds; the page is opened by `open`.

        Raises `ProgramMissing`, `StartFailed` and `OSError`; nothing runs then.
        """
        try:
            self._launch(clock.now() + deadline)
        except BaseException as error:
            self.kill()
            if isinstance(error, cdp.ConnectionLost | cdp.NoAnswer | cdp.Refused | DriverLost):
                raise StartFailed(str(error)) from error
            raise

    def open(self, deadline: float = LOAD) -> None:
        """Load WhatsApp Web. Raises `CallFailed` where it cannot be reached, `CallTimeout` and `PageLost`."""
        self.page.open(self._options.url, deadline)

    def answers(self, deadline: float) -> bool:
        """Whether Chromium and its page's process do anything within so many seconds."""
        try:
            if self._wire is not None:
                self._wire.connection.ask("Runtime.evaluate", deadline, expression="1", returnByValue=True)
        except (cdp.ConnectionLost, cdp.NoAnswer):
            return False
        except cdp.Refused:  # between two pages
            return True
        return self._wire is not None

    def acknowledge(self, boot: str, seq: int) -> None:
        """Let the page forget the events of that life up to `seq`; any thread may say so. Never fails."""
        if self._wire is not None:
            self._wire.acknowledge(boot, seq)

    @property
    def page(self) -> Page:
        """What can be done with its page. Raises `PageLost` where it was not launched."""
        if self._page is None:
            raise PageLost("the browser was not launched")
        return self._page

    @property
    def lost(self) -> str | None:
        """Why it is gone for good; None while it is not."""
        return self._wire.lost if self._wire else None

    @property
    def pid(self) -> int | None:
        """Of Chromium."""
        return self._program.pid if self._program else None

    @property
    def driver_pid(self) -> int | None:
        """Of its driver, while there is one."""
        return self._driver.pid if self._driver else None

    @property
    def driver_alive(self) -> bool:
        """Whether the driver is there; the next call attaches another one where it is not."""
        return self._driver is not None and self._driver.alive

    def memory(self) -> int:
        """Bytes of Chromium and all its processes, of shared pages its share (PSS)."""
        return self._program.memory() if self._program else 0

    def close(self, deadline: float = 10.0) -> None:
        """End it so that nothing of the profile is lost; by force after `deadline` seconds."""
        until = clock.now() + deadline
        if self._wire and self._program:
            self._wire.expect_end()
            with contextlib.suppress(cdp.ConnectionLost):
                self._wire.connection.tell("Browser.close")
            if not self._program.wait(deadline / 2):
                self._program.terminate()
                self._program.wait(until - clock.now())
        self.kill()

    def kill(self) -> None:
        """End everything at once; nothing of it runs when this returns. May be called at any time, and twice."""
        if self._wire:
            self._wire.close()
        if self._driver:
            self._driver.kill()
        if self._program:
            self._program.kill()

    def _launch(self, until: float) -> None:
        options = self._options
        executable, driver = chromium.find_chromium(options.chrome), chromium.find_driver(options.driver)
        preload = _preload(options)
        self._program = chromium.launch(executable, options.profile, options.arguments)
        port = chromium.debugger_port(self._program, options.profile, until - clock.now())
        self._wire = wire = EventConnection(self._program, port, preload, self.events, until - clock.now())
        self._driver = Driver(driver, port, options.profile / "chromedriver.log")
        self._driver.attach(max(until - clock.now(), 1))
        self._page = Page(self._driver, lambda: wire.connection, lambda: wire.lost, self._begin)


def _preload(options: BrowserOptions) -> str:
    """What is run in the page before anything of its own; in no other page, and in no frame of it."""
    address = urlsplit(options.url)
    origin = json.dumps(f"{address.scheme}://{address.netloc}")
    files = resources.files(__package__)
    scripts = (options.bundle.read_text("utf-8"), *(files.joinpath(name).read_text("utf-8") for name in _SCRIPTS))
    body = "\n;".join((_CONFIG, *scripts))
    return f"(() => {{ if (window !== window.top || location.origin !== {origin}) return;\n{body}\n}})();"
