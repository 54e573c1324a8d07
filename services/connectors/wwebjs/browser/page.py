"""The page of WhatsApp Web: calls of its functions through ChromeDriver, files in and out. For one thread alone."""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from services.connectors.wwebjs.browser import cdp, confinement
from services.connectors.wwebjs.browser.chromium import Program, StartFailed
from services.connectors.wwebjs.browser.page_health import Health
from services.connectors.wwebjs.browser.session_clock import clock

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

#: The default limit of a call.
CALL_TIMEOUT_SECONDS = 30.0
#: The default limit of a download.
DOWNLOAD_TIMEOUT_SECONDS = 120.0
#: The default limit for the page to report its health.
HEALTH_TIMEOUT_SECONDS = 5.0
#: The limit to start ChromeDriver and attach it to Chromium.
ATTACH_TIMEOUT_SECONDS = 20.0
#: The time beyond a script's own deadline after which ChromeDriver itself counts as hung: it hangs while the page does.
DRIVER_GRACE_SECONDS = 2.0
#: The size of the pieces in which a file is fetched from the browser.
_PIECE_BYTES = 1 << 20

_CALL = "const [path, args, done] = arguments; window.__wa ? __wa.run(path, args).then(done) : done(null);"
_DESCRIBE_BLOB = "function () { return this instanceof Blob ? { size: this.size, type: this.type } : this; }"
#: Parts of errors of ChromeDriver and Chromium that mean that the page is gone. A script may have run before.
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
    "navigated or closed",
)
#: Chromium's error when the page forgot the promise of a call: such a call never ends.
_FORGOTTEN = "promise was collected"


class PageLost(Exception):
    """The page, its browser or its driver is gone; it is unknown whether the call ran."""

    @property
    def reason(self) -> str:
        """Why it is gone."""
        return str(self)


class CallTimeout(Exception):
    """The deadline passed; the call may have run, or may still run."""


class CallFailed(Exception):
    """The page's function threw."""

    def __init__(self, code: str | None, message: str) -> None:
        """`code`: that of wa-js, if it has one."""
        super().__init__(f"{message} ({code})" if code else message)
        self.code = code
        self.message = message


class TooLarge(Exception):
    """A file is larger than the limit."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A downloaded file."""

    size: int  # bytes
    mime_type: str  # according to the browser; may be empty


class Page:
    """The operations on the page. Only the thread that launched the browser may call them."""

    def __init__(
        self, driver: "Driver", connection: Callable[[], cdp.Connection], lost: Callable[[], str | None],
        begin: Callable[[str, float], None],
    ) -> None:  # fmt: skip
        """`connection`: returns our DevTools connection. `lost`: returns why the page is gone, or None.

        `begin`: called before each operation, with its name and its deadline in seconds, for the watchdog.
        """
        self._driver = driver
        self._connection = connection
        self._lost = lost
        self._begin = begin

    def call(self, function: str, *arguments: Any, deadline: float = CALL_TIMEOUT_SECONDS) -> Any:
        """Call a function of the page, such as `WPP.chat.sendTextMessage`, and return its result, as JSON.

        `deadline` is in seconds. Raises `CallFailed`, `CallTimeout` and `PageLost`.
        """
        with self._translated(function, deadline):
            answer = self._driver.run(_CALL, (function, list(arguments)), deadline)
        return _value_of(answer)

    def call_directly(self, function: str, *arguments: Any, deadline: float = CALL_TIMEOUT_SECONDS) -> Any:
        """Like `call`, but over our DevTools connection, without ChromeDriver: in a fifth of the time.

        A connection that breaks while the page lives counts as a timeout: it reconnects by itself.
        """
        expression = f"window.__wa ? __wa.run({json.dumps(function)}, {json.dumps(arguments)}) : null"
        with self._translated(function, deadline):
            try:
                answer = self._connection().request(
                    "Runtime.evaluate", deadline, expression=expression, awaitPromise=True, returnByValue=True
                )
            except cdp.ConnectionLost as error:
                if self._lost() is None:
                    raise CallTimeout(f"{function}: the connection broke: {error}") from error
                raise
            except cdp.RequestRefused as error:
                if _is_gone(str(error)):
                    raise PageLost(f"{function}: {error}") from error
                if _FORGOTTEN in str(error).lower():
                    raise CallTimeout(f"{function}: it never ends") from error
                raise
        if "exceptionDetails" in answer:
            raise CallFailed(None, str(answer["exceptionDetails"].get("text")))
        return _value_of(answer["result"].get("value"))

    def open(self, url: str, deadline: float = CALL_TIMEOUT_SECONDS) -> None:
        """Load a page. Raises `CallFailed` if it cannot be reached, `CallTimeout` and `PageLost`."""
        with self._translated("load", deadline):
            self._driver.open(url, deadline)

    def attach_file(self, path: Path, deadline: float = CALL_TIMEOUT_SECONDS) -> None:
        """Put a file of this machine into the page, for the next `__wa.sendFile`. Raises like `call`."""
        element = self.call("__wa.expectFile", deadline=deadline)
        with self._translated("attach a file", deadline):
            self._driver.choose_file(element, path.absolute(), deadline)

    def send_file(
        self, chat_id: str, path: Path, options: dict[str, Any], deadline: float = CALL_TIMEOUT_SECONDS
    ) -> Any:
        """Send a file of this machine with `options` of `WPP.chat.sendFileMessage`. Raises like `call`."""
        until = clock.now() + deadline
        self.attach_file(path, deadline)
        return self.call("__wa.sendFile", chat_id, options, deadline=max(until - clock.now(), 1.0))

    def download(
        self, function: str, *arguments: Any, path: Path, limit: int, deadline: float = DOWNLOAD_TIMEOUT_SECONDS
    ) -> Blob:
        """Call a function that returns a Blob and write the Blob to `path`, piece by piece.

        `limit`: its maximum size in bytes. Raises `TooLarge`, `OSError` and like `call`; a part of the file may be left
        then.
        """
        until = clock.now() + deadline
        with self._translated(function, deadline), self._blob(function, arguments, deadline) as found:
            size, mime_type, handle = found
            if size > limit:
                raise TooLarge(f"{size} bytes are more than {limit}")
            with path.open("wb") as file:
                self._copy(handle, file, until)
        return Blob(size, mime_type)

    def health(self, deadline: float = HEALTH_TIMEOUT_SECONDS) -> Health:
        """The page's report on itself. Raises `CallTimeout`, `PageLost`, and `CallFailed` if the page is broken."""
        report = self.call("__wa.health", deadline=deadline)
        return Health(**{name: report.get(name) for name in Health.__slots__})

    @contextlib.contextmanager
    def _blob(self, function: str, arguments: tuple[Any, ...], deadline: float) -> Iterator[tuple[int, str, str]]:
        """Size, type and handle of the Blob that a function returns."""
        connection = self._connection()
        call = json.dumps([function, list(arguments)])
        expression = f"__wa.blob(...{call}).catch((error) => __wa.failure(error))"
        parameters = {"expression": expression, "awaitPromise": True, "objectGroup": "wa-files"}
        answer = connection.request("Runtime.evaluate", deadline, **parameters)
        try:
            blob = answer["result"].get("objectId")
            if "exceptionDetails" in answer or blob is None:
                raise PageLost("the page is not WhatsApp Web")
            describe = {"objectId": blob, "functionDeclaration": _DESCRIBE_BLOB, "returnByValue": True}
            described = connection.request("Runtime.callFunctionOn", **describe)["result"]["value"]
            if "size" not in described:
                raise CallFailed(described.get("code"), described.get("message", ""))
            handle = f"blob:{connection.request('IO.resolveBlob', objectId=blob)['uuid']}"
            yield described["size"], described["type"], handle
            connection.send("IO.close", handle=handle)
        finally:
            connection.send("Runtime.releaseObjectGroup", objectGroup="wa-files")

    def _copy(self, handle: str, file: BinaryIO, until: float) -> None:
        ended = False
        while not ended:
            left = until - clock.now()
            if left <= 0:
                raise cdp.RequestTimeout("the download took too long")
            self._begin("download", left)
            piece = self._connection().request("IO.read", left, handle=handle, size=_PIECE_BYTES)
            data = piece["data"]
            file.write(base64.b64decode(data) if piece.get("base64Encoded") else data.encode())
            ended = piece["eof"]

    @contextlib.contextmanager
    def _translated(self, operation: str, deadline: float) -> Iterator[None]:
        """Translate the errors of both ways to the page, ChromeDriver and DevTools, into ours."""
        if reason := self._lost():
            raise PageLost(reason)
        self._begin(operation, deadline)
        try:
            yield
        except (DriverTimeout, cdp.RequestTimeout) as error:
            raise CallTimeout(f"{operation}: {error}") from error
        except (DriverLost, cdp.ConnectionLost) as error:
            raise PageLost(f"{operation}: {self._lost() or error}") from error
        except (DriverRefused, cdp.RequestRefused) as error:
            if reason := self._lost():
                raise PageLost(f"{operation}: {reason}") from error
            raise CallFailed(None, str(error)) from error


def _value_of(answer: Any) -> Any:
    """The value that `__wa.run` returned. Raises `CallFailed`, and `PageLost` if the page has no `__wa`."""
    if answer is None:
        raise PageLost("the page is not WhatsApp Web")
    if "message" in answer:
        raise CallFailed(answer.get("code"), answer["message"])
    return answer.get("value")


def _is_gone(reason: str) -> bool:
    """Whether an error of ChromeDriver or Chromium means that the page is gone."""
    return any(part in reason.lower() for part in _GONE)


# --- ChromeDriver -----------------------------------------------------------------------------------------------------


class DriverLost(Exception):
    """ChromeDriver or its page is gone; it is unknown whether the operation happened."""


class DriverTimeout(Exception):
    """No answer in time; the operation may still happen."""


class DriverRefused(Exception):
    """The operation failed; the text is ChromeDriver's."""


class Driver:
    """One ChromeDriver, attached to one Chromium. It may die, and the next call attaches another one.

    Only one thread may use it, except for `kill`.
    """

    def __init__(self, executable: Path, port: int, log: Path) -> None:
        """`port`: that of Chromium. `log`: the file for ChromeDriver's output. Nothing is started yet."""
        self._executable = executable
        self._port = port
        self._log = log
        self._program: Program | None = None
        self._selenium: WebDriver | None = None
        self._script_timeout: float | None = None

    @property
    def pid(self) -> int | None:
        """The process id of ChromeDriver, while it runs."""
        return self._program.pid if self._program else None

    @property
    def alive(self) -> bool:
        """Whether ChromeDriver runs and is attached."""
        return self._selenium is not None and self._program is not None and self._program.alive

    def attach(self, deadline: float = ATTACH_TIMEOUT_SECONDS) -> None:
        """Start a ChromeDriver, replacing an earlier one, and attach it. Raises `DriverLost`."""
        self.kill()
        try:
            command = (str(self._executable), "--port=0", "--log-level=WARNING")
            self._program = Program(command, self._log, confinement.of_driver(self._executable, self._port))
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
        """The value that an asynchronous script passes to its last argument, within `deadline` seconds.

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
        """Load a page and return once its document is complete. Raises like `run`."""
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
        program, self._program = self._program, None
        self._selenium = None
        self._script_timeout = None
        if program is not None:
            program.kill()

    def _ready(self, deadline: float) -> "WebDriver":
        if not self.alive:
            self.attach(min(max(deadline, 5.0), ATTACH_TIMEOUT_SECONDS))
        if self._selenium is None:
            raise DriverLost("ChromeDriver was ended")
        self._selenium.command_executor.client_config.timeout = clock.stretched(deadline + DRIVER_GRACE_SECONDS)  # type: ignore[union-attr]
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
            words = _first_line(error)
            if _is_gone(words):
                raise DriverLost(words) from error
            raise DriverRefused(words) from error


def _attached(port: int, chromium_port: int, deadline: float) -> "WebDriver":
    """Selenium is imported here because it takes a quarter of a second, and memory that only sessions need."""
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
