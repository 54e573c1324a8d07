"""The browser of a session: a Chromium, its ChromeDriver, and the connection for the page's events."""

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
from bisnesctl.host import browsers
from bisnesctl.settings import Settings
from services.connectors.wwebjs.browser import cdp, chromium
from services.connectors.wwebjs.browser.chromium import Program, StartFailed
from services.connectors.wwebjs.browser.page import Driver, DriverLost, Page, PageLost
from services.connectors.wwebjs.browser.page_events import EventConnection, EventQueue
from services.connectors.wwebjs.browser.session_clock import clock

#: The limit for Chromium to launch.
LAUNCH_TIMEOUT_SECONDS = 30.0
#: The limit for the page to load.
LOAD_TIMEOUT_SECONDS = 60.0
#: The limit for Chromium to close.
CLOSE_TIMEOUT_SECONDS = 10.0
#: No beacons to third parties, and no requests to servers that make previews of links.
_CONFIG = "window.WPPConfig = {disableGoogleAnalytics: true, linkPreviewApiServers: [], deviceName: false};"
_SCRIPTS = ("messages.js", "bridge.js")


@dataclass(frozen=True, slots=True)
class BrowserOptions:
    """The programs to launch, and the page to open."""

    profile: Path  # the folder in which the browser keeps its state
    url: str
    bundle: Path  # of wa-js
    chrome: Path | None = None  # None: the installed one
    driver: Path | None = None  # None: the installed one
    arguments: tuple[str, ...] = ()  # further arguments of Chromium
    files: tuple[Path, ...] = ()  # folders of the files that are sent

    @classmethod
    def from_settings(cls, settings: Settings, profile: Path) -> Self:
        """The configured options. Raises `ConfigError` if there is no bundle of wa-js."""
        bundle, further = wajs.bundle(settings), settings.chrome_arguments
        files = (settings.media_dir,) if settings.media_dir else ()
        for folder in files:  # so that the browser may read what is stored there later
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(
            profile, settings.whatsapp_url, bundle, settings.chrome_path, settings.chromedriver_path, further, files
        )


def _no_watchdog(_step: str, _deadline: float) -> None:
    pass


class Browser:
    """Launched once, and used by one thread, which must live as long: Chromium ends with that thread.

    A browser that is lost is killed and replaced by another one.
    """

    def __init__(self, options: BrowserOptions, begin: Callable[[str, float], None] = _no_watchdog) -> None:
        """Nothing is started yet. `begin`: called before each operation, with its name and its deadline in seconds."""
        self.events: EventQueue = queue.Queue()
        self._options = options
        self._begin = begin
        self._program: Program | None = None
        self._event_connection: EventConnection | None = None
        self._driver: Driver | None = None
        self._page: Page | None = None

    def launch(self, deadline: float = LAUNCH_TIMEOUT_SECONDS) -> None:
        """Start Chromium and ChromeDriver within `deadline` seconds; `open` then opens the page.

        Raises `ProgramMissing`, `StartFailed` and `OSError`; no process is left then.
        """
        try:
            self._launch(clock.now() + deadline)
        except BaseException as error:
            self.kill()
            if isinstance(error, cdp.ConnectionLost | cdp.RequestTimeout | cdp.RequestRefused | DriverLost):
                raise StartFailed(str(error)) from error
            raise

    def open(self, deadline: float = LOAD_TIMEOUT_SECONDS) -> None:
        """Load WhatsApp Web. Raises `CallFailed` if it cannot be reached, `CallTimeout` and `PageLost`."""
        self.page.open(self._options.url, deadline)

    def answers(self, deadline: float) -> bool:
        """Whether Chromium and the process of its page answer within `deadline` seconds."""
        try:
            if self._event_connection is not None:
                self._event_connection.connection.request(
                    "Runtime.evaluate", deadline, expression="1", returnByValue=True
                )
        except (cdp.ConnectionLost, cdp.RequestTimeout):
            return False
        except cdp.RequestRefused:  # between two pages
            return True
        return self._event_connection is not None

    def acknowledge(self, boot: str, seq: int) -> None:
        """Let the page drop the events of this load up to `seq`. Safe for any thread. Never fails."""
        if self._event_connection is not None:
            self._event_connection.acknowledge(boot, seq)

    @property
    def page(self) -> Page:
        """The page. Raises `PageLost` if the browser was not launched."""
        if self._page is None:
            raise PageLost("the browser was not launched")
        return self._page

    @property
    def lost(self) -> str | None:
        """Why it is gone permanently; None if it is not."""
        return self._event_connection.lost if self._event_connection else None

    @property
    def pid(self) -> int | None:
        """The process id of Chromium."""
        return self._program.pid if self._program else None

    @property
    def driver_pid(self) -> int | None:
        """The process id of ChromeDriver, while it runs."""
        return self._driver.pid if self._driver else None

    @property
    def driver_alive(self) -> bool:
        """Whether ChromeDriver is attached; if not, the next call attaches another one."""
        return self._driver is not None and self._driver.alive

    def memory(self) -> int:
        """Bytes used by Chromium and all its processes; shared pages count in proportion (PSS)."""
        return self._program.memory() if self._program else 0

    def close(self, deadline: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """End it without losing anything of the profile; by force after `deadline` seconds."""
        until = clock.now() + deadline
        if self._event_connection and self._program:
            self._event_connection.expect_end()
            with contextlib.suppress(cdp.ConnectionLost):
                self._event_connection.connection.send("Browser.close")
            if not self._program.wait(deadline / 2):
                self._program.terminate()
                self._program.wait(until - clock.now())
        self.kill()

    def kill(self) -> None:
        """End all its processes at once. May be called at any time, and twice."""
        if self._event_connection:
            self._event_connection.close()
        if self._driver:
            self._driver.kill()
        if self._program:
            self._program.kill()
            chromium.remove_temporary(self._options.profile)

    def _launch(self, until: float) -> None:
        options = self._options
        executable, driver = browsers.find_chromium(options.chrome), browsers.find_driver(options.driver)
        preload = _preload(options)
        self._program = chromium.launch(executable, options.profile, options.arguments, options.files)
        port = chromium.debugger_port(self._program, options.profile, until - clock.now())
        self._event_connection = events = EventConnection(
            self._program, port, preload, self.events, until - clock.now()
        )
        self._driver = Driver(driver, port, options.profile / "chromedriver.log")
        self._driver.attach(max(until - clock.now(), 1))
        self._page = Page(self._driver, lambda: events.connection, lambda: events.lost, self._begin)


def _preload(options: BrowserOptions) -> str:
    """The script that runs before the page's own; not in other pages, and not in frames."""
    address = urlsplit(options.url)
    origin = json.dumps(f"{address.scheme}://{address.netloc}")
    files = resources.files(__package__)
    scripts = (options.bundle.read_text("utf-8"), *(files.joinpath(name).read_text("utf-8") for name in _SCRIPTS))
    body = "\n;".join((_CONFIG, *scripts))
    return f"(() => {{ if (window !== window.top || location.origin !== {origin}) return;\n{body}\n}})();"
