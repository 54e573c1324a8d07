"""Live updates: server-sent events with the part of a page that changed.

`GET /ui/live?page=<path and query of a page>` renders the live part of the page again and again, as the person who is
signed in, and sends it if it is another one: `{"html": "…"}` in an event `update`. An event `stale` says why the page
cannot be made now: `{"reason": "…"}`; an update follows as soon as it can be made again. An event `end` says that the
person was signed out or may not open the page any more. Between events a comment keeps proxies from closing the
connection.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog
from werkzeug.test import EnvironBuilder, run_wsgi_app

from services.dashboard.rendering import LIVE
from services.http_server.asgi import Receive, Scope, Send, disconnection
from services.http_server.shutdown import on_termination

#: The address of streams.
PATH = "/ui/live"
#: Seconds between two looks at a page.
PERIOD_SECONDS = 2.0
#: Seconds without a change after which a comment is sent.
KEEP_ALIVE_SECONDS = 15.0
#: Streams of one process, at most, and of one person's browser.
MAX_STREAMS, MAX_STREAMS_OF_COOKIE = 100, 12
#: Threads that render for all streams: few, so that pages that people wait for go first.
THREADS = 2
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"), (b"x-content-type-options", b"nosniff"),
]  # fmt: skip

log = structlog.get_logger()


class LiveStreams:
    """The streams of one process, on its event loop."""

    def __init__(self, app: Any, prefix: str) -> None:
        """`app`: the WSGI application with the pages, whose paths begin with `prefix`."""
        self._app, self._prefix = app, prefix
        self._threads = ThreadPoolExecutor(THREADS, "live")
        self._open: Counter[str] = Counter()
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        on_termination(self.end)

    def end(self) -> None:
        """End all streams: browsers reconnect, perhaps to another process."""
        self._loop.call_soon_threadsafe(self._ended.set)

    def close(self) -> None:
        """The same, and end the threads."""
        self._ended.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one stream until its client disconnects or the process ends."""
        target = parse_qs(scope["query_string"].decode("latin-1")).get("page", [""])[0]
        cookie = _header(scope, b"cookie")
        parts = urlsplit(target)
        is_page = parts.path.startswith(self._prefix) and not parts.netloc and not parts.scheme
        if scope["method"] != "GET" or not is_page or parts.path == PATH:
            await _refuse(send, 400)
        elif self._open.total() >= MAX_STREAMS or self._open[cookie] >= MAX_STREAMS_OF_COOKIE:
            await _refuse(send, 503)
        else:
            await self._stream(scope, f"{parts.path}?{parts.query}", cookie, receive, send)

    async def _stream(self, scope: Scope, target: str, cookie: str, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(disconnection(receive))
        ended = asyncio.ensure_future(self._ended.wait())
        self._open[cookie] += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._send_updates(scope, target, send, {gone, ended})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            ended.cancel()
            self._open[cookie] -= 1
            self._open += Counter()  # forgets those with none

    async def _send_updates(self, scope: Scope, target: str, send: Send, ends: set[asyncio.Future[Any]]) -> None:
        before, silent, is_stale = b"", 0.0, False
        while not any(each.done() for each in ends):
            status, body = await self._loop.run_in_executor(self._threads, self._render, scope, target)
            digest = hashlib.sha256(body).digest()
            if 300 <= status < 500:
                await _send(send, b"event: end\ndata: {}\n\n")
                return
            if status >= 500:  # what the person sees stays
                if not is_stale:
                    silent = 0.0
                    await _send(send, _event("stale", reason=body.decode()))
                before, is_stale = b"", True
            elif digest != before:
                before, silent, is_stale = digest, 0.0, False
                await _send(send, _event("update", html=body.decode()))
            elif silent >= KEEP_ALIVE_SECONDS:
                silent = 0.0
                await _send(send, b": \n\n")
            silent += PERIOD_SECONDS
            await asyncio.wait(ends, timeout=PERIOD_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    def _render(self, scope: Scope, target: str) -> tuple[int, bytes]:
        names = (b"cookie", b"accept-language", b"host")
        headers = [(name.decode(), value) for name in names if (value := _header(scope, name))]
        environ = EnvironBuilder(target, headers=headers, environ_overrides={LIVE: True}).get_environ()
        try:
            parts, status, _ = run_wsgi_app(self._app, environ, buffered=True)
        except Exception:
            log.exception("live.failed", page=target)
            return 500, b""
        return int(status.split(" ", 1)[0]), b"".join(parts)


def _event(name: str, **values: str) -> bytes:
    return f"event: {name}\ndata: {json.dumps(values)}\n\n".encode()


def _header(scope: Scope, wanted: bytes) -> str:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return "; ".join(value.decode("latin-1") for name, value in headers if name == wanted)


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
