"""The page of WhatsApp Web: functions that are called in it, files that go in and come out. For one thread alone."""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from services.connectors.wwebjs.browser import cdp
from services.connectors.wwebjs.browser.driver import Driver, DriverLost, DriverRefused, DriverTimeout
from services.connectors.wwebjs.browser.session_clock import clock

#: Seconds that a call may take unless told otherwise.
DEADLINE = 30.0
#: Bytes of a file that are fetched from the browser at once.
_PIECE = 1 << 20

_CALL = "const [path, given, done] = arguments; window.__wa ? __wa.run(path, given).then(done) : done(null);"


class PageLost(Exception):
    """The page, its browser or its driver is gone; whether the call ran is unknown."""

    @property
    def reason(self) -> str:
        """What happened."""
        return str(self)


class CallTimeout(Exception):
    """The deadline passed; the call may have run, or run yet."""


class CallFailed(Exception):
    """The page's function threw."""

    def __init__(self, code: str | None, message: str) -> None:
        """`code`: wa-js's, where it has one."""
        super().__init__(f"{message} ({code})" if code else message)
        self.code, self.message = code, message


class TooLarge(Exception):
    """A file is larger than it may be."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a page says of itself; None where that is not known yet."""

    boot: str  # the page's life: another one after each load
    full: bool  # whether wa-js is ready for everything
    mode: str | None  # of the stream: QR, SYNCING, MAIN, OFFLINE, CONFLICT, …
    info: str | None  # NORMAL, PAIRING, OPENING, OFFLINE, …
    socket: str | None  # CONNECTED, UNPAIRED, …
    authenticated: bool | None
    online: bool | None
    needs_update: bool | None
    me: str | None  # whose account it is, as the page has it: `60123456789@c.us`
    wa_js: str | None  # versions
    wa_web: str | None

    @property
    def number(self) -> str | None:
        """Digits of its account's number; None while that is not known, or hidden behind an id."""
        name, _, domain = (self.me or "").partition("@")
        return (name.partition(":")[0] or None) if domain in ("", "c.us", "s.whatsapp.net") else None


@dataclass(frozen=True, slots=True)
class Blob:
    """A file that was downloaded."""

    size: int  # bytes
    mime_type: str  # what the browser calls it; may be empty


class Page:
    """What can be done with the page. Only the thread that owns the browser may call it."""

    def __init__(
        self, driver: Driver, connection: Callable[[], cdp.Connection], lost: Callable[[], str | None],
        begin: Callable[[str, float], None],
    ) -> None:  # fmt: skip
        """`connection`: the one of our own; `lost`: why the page is gone, None while it is not.

        `begin`: told what is about to be done, and its deadline in seconds.
        """
        self._driver, self._connection, self._lost, self._begin = driver, connection, lost, begin

    def call(self, function: str, *arguments: Any, deadline: float = DEADLINE) -> Any:
        """Call a function of the page, such as `WPP.chat.sendTextMessage`, and return what it gives, as JSON.

        `deadline` is in seconds. Raises `CallFailed`, `CallTimeout` and `PageLost`.
        """
        with self._translated(function, deadline):
            answer = self._driver.run(_CALL, (function, list(arguments)), deadline)
        if answer is None:
            raise PageLost("the page that is there is not WhatsApp Web")
        return _value(answer)

    def open(self, url: str, deadline: float = DEADLINE) -> None:
        """Load a page. Raises `CallFailed` where it cannot be reached, `CallTimeout` and `PageLost`."""
        with self._translated("load", deadline):
            self._driver.open(url, deadline)

    def attach_file(self, path: Path, deadline: float = DEADLINE) -> None:
        """Put a file of this machine into the page, for the next `__wa.sendFile`. Raises like `call`."""
        element = self.call("__wa.expectFile", deadline=deadline)
        with self._translated("attach a file", deadline):
            self._driver.choose_file(element, path.absolute(), deadline)

    def send_file(self, chat_id: str, path: Path, options: dict[str, Any], deadline: float = DEADLINE) -> Any:
        """Send a file of this machine with `options` of `WPP.chat.sendFileMessage`. Raises like `call`."""
        until = clock.now() + deadline
        self.attach_file(path, deadline)
        return self.call("__wa.sendFile", chat_id, options, deadline=max(until - clock.now(), 1.0))

    def download(self, function: str, *arguments: Any, path: Path, limit: int, deadline: float = 4 * DEADLINE) -> Blob:
        """Call a function that gives a Blob and write that to `path`, piece by piece.

        `limit`: bytes, at most. Raises `TooLarge`, `OSError` and like `call`; what was written may be left then.
        """
        until = clock.now() + deadline
        with self._translated(function, deadline), self._blob(function, arguments, deadline) as found:
            size, mime_type, handle = found
            if size > limit:
                raise TooLarge(f"{size} bytes are more than {limit}")
            with path.open("wb") as file:
                self._copy(handle, file, until)
        return Blob(size, mime_type)

    def health(self, deadline: float = 5.0) -> Health:
        """How the page is. Raises `CallTimeout` and `PageLost`, and `CallFailed` where it is broken."""
        told = self.call("__wa.health", deadline=deadline)
        return Health(**{name: told.get(name) for name in Health.__slots__})

    @contextlib.contextmanager
    def _blob(self, function: str, arguments: tuple[Any, ...], deadline: float) -> Iterator[tuple[int, str, str]]:
        """Size, type and handle of the Blob that a function gives."""
        connection = self._connection()
        given = json.dumps([function, list(arguments)])
        made = f"__wa.blob(...{given}).catch((error) => __wa.failure(error))"
        asked = {"expression": made, "awaitPromise": True, "objectGroup": "wa-files"}
        answer = connection.ask("Runtime.evaluate", deadline, **asked)
        try:
            blob = answer["result"].get("objectId")
            if "exceptionDetails" in answer or blob is None:
                raise PageLost("the page that is there is not WhatsApp Web")
            about = {"objectId": blob, "functionDeclaration": _ABOUT, "returnByValue": True}
            told = connection.ask("Runtime.callFunctionOn", **about)["result"]["value"]
            if "size" not in told:
                raise CallFailed(told.get("code"), told.get("message", ""))
            handle = f"blob:{connection.ask('IO.resolveBlob', objectId=blob)['uuid']}"
            yield told["size"], told["type"], handle
            connection.tell("IO.close", handle=handle)
        finally:
            connection.tell("Runtime.releaseObjectGroup", objectGroup="wa-files")

    def _copy(self, handle: str, file: BinaryIO, until: float) -> None:
        ended = False
        while not ended:
            left = until - clock.now()
            if left <= 0:
                raise cdp.NoAnswer("the download took too long")
            self._begin("download", left)
            piece = self._connection().ask("IO.read", left, handle=handle, size=_PIECE)
            data = piece["data"]
            file.write(base64.b64decode(data) if piece.get("base64Encoded") else data.encode())
            ended = piece["eof"]

    @contextlib.contextmanager
    def _translated(self, what: str, deadline: float) -> Iterator[None]:
        """The errors of both ways to the page, as ours."""
        if reason := self._lost():
            raise PageLost(reason)
        self._begin(what, deadline)
        try:
            yield
        except (DriverTimeout, cdp.NoAnswer) as error:
            raise CallTimeout(f"{what}: {error}") from error
        except (DriverLost, cdp.ConnectionLost) as error:
            raise PageLost(f"{what}: {self._lost() or error}") from error
        except (DriverRefused, cdp.Refused) as error:
            if reason := self._lost():
                raise PageLost(f"{what}: {reason}") from error
            raise CallFailed(None, str(error)) from error


_ABOUT = "function () { return this instanceof Blob ? { size: this.size, type: this.type } : this; }"


def _value(answer: dict[str, Any]) -> Any:
    if "message" in answer:
        raise CallFailed(answer.get("code"), answer["message"])
    return answer.get("value")
