"""Serves a WSGI application on the event loop: a thread runs it, and never waits for a client.

A thread gets a request whose body is complete, and hands over what it has of the answer; the event loop sends that, and
asks for the next part once the client has taken the last one.
"""

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.http_server import request_ids
from services.http_server.asgi import Receive, Scope, Send, disconnection
from services.http_server.body import Body
from services.runtime.logging_setup import current_request

#: Bytes of an answer that are handed over at a time, at least, unless it ends before.
PART_BYTES = 64 << 10
#: Threads that read the further parts of answers, such as large files.
PART_THREADS = 8

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
WsgiApp = Callable[[Environ, Any], Iterable[bytes]]

log = structlog.get_logger()


@dataclass(slots=True)
class Answer:
    """The application's answer, as far as it was read."""

    environ: Environ
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    #: The next bytes to send.
    part: bytes = b""
    #: The rest of the answer; None if there is none.
    rest: Iterator[bytes] | None = None
    close: Callable[[], object] | None = None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """As WSGI has it."""
        self.status = int(status.split(" ", 1)[0])
        self.headers = [
            (name.strip().lower().encode("latin-1"), value.strip().encode("latin-1")) for name, value in headers
        ]
        return self._write

    def _write(self, data: bytes) -> None:
        self.part += data

    def read(self) -> None:
        """Read the next part. Runs in a thread."""
        assert self.rest is not None  # noqa: S101 - asked for by `more`
        parts, size = [self.part], len(self.part)
        try:
            while size < PART_BYTES:
                part = next(self.rest)
                parts.append(part)
                size += len(part)
        except StopIteration:
            self.end()
        except BaseException:
            self.end()
            raise
        finally:
            self.part = b"".join(parts)

    def end(self) -> None:
        """Close the source of the answer. Runs in a thread."""
        close, self.close, self.rest = self.close, None, None
        if close is not None:
            close()


def _encoded(text: str) -> bytes:
    return text.strip().encode("latin-1")


class WsgiBridge:
    """Runs an application in a bounded pool of threads."""

    def __init__(self, app: WsgiApp, threads: int, name: str = "wsgi") -> None:
        self._app, self._name = app, name
        self._threads = ThreadPoolExecutor(threads, name)
        self._parts = ThreadPoolExecutor(PART_THREADS, f"{name}-parts")

    def close(self) -> None:
        """End the threads, without waiting for their work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._parts.shutdown(wait=False, cancel_futures=True)

    async def run(self, scope: Scope, body: Body) -> Answer:
        """The application's answer, up to its first part. Closes the body."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, scope, body)

    def _run(self, scope: Scope, body: Body) -> Answer:
        current_request.set(request_ids.of(scope))  # the thread serves this request alone until the next one
        with body.file:
            answer = Answer(environ_of(scope, body))
            found = self._app(answer.environ, answer.start_response)
            answer.rest, answer.close = iter(found), getattr(found, "close", None)
            answer.read()
            return answer

    async def send(self, answer: Answer, receive: Receive, send: Send) -> None:
        """Send an answer and close its source. A client that disconnects or hangs occupies no thread."""
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            if answer.rest is None:
                await send({"type": "http.response.body", "body": answer.part})
            else:
                await self._send_parts(answer, receive, send)
        finally:
            if answer.rest is not None:
                with suppress(RuntimeError):  # the process ends
                    self._parts.submit(_end, answer)

    async def _send_parts(self, answer: Answer, receive: Receive, send: Send) -> None:
        loop, gone = asyncio.get_running_loop(), asyncio.ensure_future(disconnection(receive))
        try:
            while answer.rest is not None and not gone.done():
                await send({"type": "http.response.body", "body": answer.part, "more_body": True})
                await send(
                    {"type": "http.response.body", "body": b"", "more_body": True}
                )  # waits until the client has read enough
                answer.part = b""
                await loop.run_in_executor(self._parts, answer.read)
            await send({"type": "http.response.body", "body": answer.part})
        finally:
            gone.cancel()


def _end(answer: Answer) -> None:
    try:
        answer.end()
    except Exception:
        log.exception("answer.not_closed")


def environ_of(scope: Scope, body: Body) -> Environ:
    """The request as WSGI has it. Headers with an underscore in their name are dropped: they would pass for others."""
    server, client = scope.get("server") or ("localhost", 80), scope.get("client")
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 0),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body.file,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        request_ids.KEY: request_ids.of(scope),
    }
    if client is not None:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    for name, value in scope["headers"]:
        if b"_" not in name and name not in _FRAMING:
            _add(environ, name.decode("latin-1").upper().replace("-", "_"), value.decode("latin-1"))
    if body.size or any(name in _FRAMING for name, _ in scope["headers"]):
        environ["CONTENT_LENGTH"] = str(body.size)
    return environ


#: The headers that describe the body's length: it is complete, so its length is known.
_FRAMING = (b"content-length", b"transfer-encoding")


def _add(environ: Environ, name: str, value: str) -> None:
    key = name if name == "CONTENT_TYPE" else f"HTTP_{name}"
    environ[key] = f"{environ[key]},{value}" if key in environ else value
