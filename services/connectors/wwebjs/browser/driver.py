"""Selenium on a ChromeDriver of our own, attached to a Chromium that runs already: it may die and be attached anew."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.connectors.wwebjs.browser.chromium import Program, StartFailed
from services.connectors.wwebjs.browser.session_clock import clock

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

#: Seconds beyond a script's own deadline until the driver itself counts as hung: it is, while the page is.
GRACE = 2.0
#: Seconds to start and attach.
START = 20.0
#: What ChromeDriver's errors say when the page is not there any more. A script may have run before.
_GONE = (
    "crash",
    "disconnected:",
    "not connected to devtools",
    "chrome not reachable",
    "no such window",
    "no such execution context",
    "target window already closed",
    "invalid session",
    "session deleted",
    "document unloaded",
    "aborted by navigation",
    "context was destroyed",
    "cannot find context",
    "inspector.detached",
)


class DriverLost(Exception):
    """The driver or its page is gone; whether what was asked happened is unknown."""


class DriverTimeout(Exception):
    """There was no answer in time; it may come to happen yet."""


class DriverRefused(Exception):
    """It could not be done; the text is ChromeDriver's."""


class Driver:
    """One ChromeDriver, attached to one Chromium. Only one thread may use it, but for `kill`."""

    def __init__(self, executable: Path, port: int, log: Path) -> None:
        """`port`: of the Chromium. `log` takes what the ChromeDriver says. Nothing is started yet."""
        self._executable, self._port, self._log = executable, port, log
        self._program: Program | None = None
        self._selenium: WebDriver | None = None
        self._script_timeout: float | None = None

    @property
    def pid(self) -> int | None:
        """Of the ChromeDriver, while there is one."""
        return self._program.pid if self._program else None

    @property
    def alive(self) -> bool:
        """Whether it runs and is attached."""
        return self._selenium is not None and self._program is not None and self._program.alive

    def attach(self, deadline: float = START) -> None:
        """Start a ChromeDriver, in place of one that was there, and attach it. Raises `DriverLost`."""
        self.kill()
        try:
            self._program = Program((str(self._executable), "--port=0", "--log-level=WARNING"), self._log)
            port = self._program.port(self._log, r"successfully on port (\d+)", deadline)
        except StartFailed as error:
            self.kill()
            raise DriverLost(str(error)) from error
        try:
            with self._translated():
                self._selenium = _attached(port, self._port, clock.stretched(deadline))
        except (DriverTimeout, DriverRefused) as error:
            self.kill()
            raise DriverLost(f"ChromeDriver cannot be attached: {error}") from error

    def run(self, script: str, arguments: tuple[Any, ...], deadline: float) -> Any:
        """What an asynchronous script hands to its last argument, within `deadline` seconds.

        Raises `DriverTimeout`, `DriverLost` and `DriverRefused`.
        """
        selenium = self._ready(deadline)
        seconds = clock.stretched(deadline)
        with self._translated():
            if self._script_timeout != seconds:
                selenium.set_script_timeout(seconds)
                self._script_timeout = seconds
            return selenium.execute_async_script(script, *arguments)

    def open(self, url: str, deadline: float) -> None:
        """Load a page and return once its document is there. Raises like `run`."""
        selenium = self._ready(deadline)
        with self._translated():
            selenium.set_page_load_timeout(clock.stretched(deadline))
            selenium.get(url)

    def choose_file(self, element_id: str, path: Path, deadline: float) -> None:
        """Put a file of this machine into a file input of the page. Raises like `run`."""
        from selenium.webdriver.common.by import By

        selenium = self._ready(deadline)
        with self._translated():
            selenium.find_element(By.ID, element_id).send_keys(str(path))

    def kill(self) -> None:
        """End the ChromeDriver; Chromium and its page stay."""
        program, self._program, self._selenium, self._script_timeout = self._program, None, None, None
        if program is not None:
            program.kill()

    def _ready(self, deadline: float) -> "WebDriver":
        if not self.alive:
            self.attach(min(max(deadline, 5.0), START))
        if self._selenium is None:
            raise DriverLost("ChromeDriver was ended")
        self._selenium.command_executor.client_config.timeout = clock.stretched(deadline + GRACE)  # type: ignore[union-attr]
        return self._selenium

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from selenium.common import exceptions as selenium
        from urllib3 import exceptions as urllib3

        try:
            yield
        except selenium.TimeoutException as error:
            raise DriverTimeout(_first_line(error)) from error
        except urllib3.ReadTimeoutError as error:
            self.kill()
            raise DriverTimeout("ChromeDriver does not answer") from error
        except (urllib3.HTTPError, OSError) as error:
            self.kill()
            raise DriverLost(f"ChromeDriver is gone: {error}") from error
        except selenium.WebDriverException as error:
            said = _first_line(error)
            if any(sign in said.lower() for sign in _GONE):
                raise DriverLost(said) from error
            raise DriverRefused(said) from error


def _attached(port: int, chromium_port: int, deadline: float) -> "WebDriver":
    """Selenium is imported here: it takes a quarter of a second, and memory, which only sessions pay."""
    from selenium.webdriver.common.options import ArgOptions
    from selenium.webdriver.common.proxy import Proxy
    from selenium.webdriver.remote.client_config import ClientConfig
    from selenium.webdriver.remote.file_detector import UselessFileDetector
    from selenium.webdriver.remote.webdriver import WebDriver

    options = ArgOptions()
    options.page_load_strategy = "eager"
    options.set_capability("browserName", "chrome")
    options.set_capability("goog:chromeOptions", {"debuggerAddress": f"127.0.0.1:{chromium_port}"})
    address = f"http://127.0.0.1:{port}"
    config = ClientConfig(address, proxy=Proxy({"proxyType": "DIRECT"}), timeout=int(deadline) + 1)
    return WebDriver(address, options=options, client_config=config, file_detector=UselessFileDetector())


def _first_line(error: Any) -> str:
    return str(error.msg or type(error).__name__).partition("\n")[0].strip()
