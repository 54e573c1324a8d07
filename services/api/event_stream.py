"""The streams of one API process: each is a coroutine that sends a company's events as they are raised.

One listener wakes them all. A stream reads its next events only after the last ones were taken by its client, so a
client that does not keep up costs no memory.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qs

import structlog

from services.api import sse
from services.api.auth import key_digest, principal_of
from services.api.context import Context
from services.api.sse import StreamRequest
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.events import feed
from services.events.store import EventListener
from services.http_server.errors import ApiError
from services.http_server.shutdown import on_termination
from services.runtime.account_cache import Key

PATH = "/api/events"
#: Streams of one company in one API process, at most.
MOST = 20
#: Seconds without an event after which a comment is sent, so that nothing in between takes the connection for dead.
KEEP_ALIVE = 15.0
#: Seconds before a database that is away is asked again.
PATIENCE = 1.0
#: Threads that ask the database for all streams together.
THREADS = 4

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Sending = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")

log = structlog.get_logger()


class Stream:
    """One client's stream."""

    def __init__(self, digest: bytes, asked: StreamRequest) -> None:
        self.digest, self.asked = digest, asked
        self.preface = b""  # what it begins with
        self.position = 0  # the number of the last event that was looked at
        self.told = 0  # the position that the client knows of
        self.stirred = asyncio.Event()  # there is something to do


class Streams:
    """Opens and serves streams on the event loop that it is made on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._open: set[Stream] = set()
        self._count: Counter[str] = Counter()
        self._ended = False
        self._threads = ThreadPoolExecutor(THREADS, "streams")
        self._bell = EventListener(context.database, lambda: self._from_thread(self._look_soon))
        self._listening = False
        self._look: asyncio.Task[None] | None = None
        self._rung = False
        on_termination(self.end)

    async def open(self, scope: Scope) -> Stream:
        """A stream for the request. Raises `ApiError`, `DatabaseUnavailable`."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
        digest = key_digest(headers.get(b"x-api-key"), headers.get(b"authorization"))
        principal = principal_of(await self._key(digest))
        query = parse_qs(scope["query_string"].decode("latin-1"), errors="replace")
        company, events, session, last = (query.get(name, [None])[-1] for name in _ASKED)
        asked = sse.parse(principal, company, events, session, headers.get(b"last-event-id") or last)
        company_id = asked.wish.company_id
        if self._count[company_id] >= MOST:
            message = f"company {company_id} has {MOST} streams open here already; close one first"
            raise ApiError(429, "too_many_streams", message, {"Retry-After": "60"})
        return await self._begin(Stream(digest, asked))

    async def serve(self, stream: Stream, receive: Receive, send: Sending) -> None:
        """Send the stream's events until its client goes, its key is revoked, or the process ends."""
        gone = asyncio.ensure_future(_gone(receive))
        gone.add_done_callback(lambda _: stream.stirred.set())
        try:
            await _start(send, stream.preface)
            while not (gone.done() or self._ended) and await self._is_allowed(stream):
                await self._go_on(stream, send)
        finally:
            gone.cancel()
            self._remove(stream)
        await send({"type": "http.response.body", "body": b""})

    def close(self) -> None:
        """Let go of what serves them, once they have ended."""
        self.end()
        self._threads.shutdown(wait=False)

    def end(self) -> None:
        """End all streams: their clients come back to whoever is there then."""
        self._ended = True
        self._bell.stop()
        for stream in self._open:
            stream.stirred.set()

    async def _go_on(self, stream: Stream, send: Sending) -> None:
        stream.stirred.clear()
        try:
            sent = await self._pass_on(stream, send)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("a stream waits for the database", reason=str(error).strip())
            await asyncio.sleep(PATIENCE)
            return
        if not (sent or self._ended):
            await self._wait(stream, send)

    async def _pass_on(self, stream: Stream, send: Sending) -> bool:
        """Send what is new; returns whether there may be more."""
        before = stream.position
        found, stream.position = await self._ask(feed.read, stream.asked.wish, before, sse.BATCH)
        if found:
            await _send(send, b"".join(sse.written(event) for _, event in found))
            stream.told = found[-1][0]
        return stream.position > before

    async def _wait(self, stream: Stream, send: Sending) -> None:
        try:
            await asyncio.wait_for(stream.stirred.wait(), KEEP_ALIVE)
        except TimeoutError:
            behind = stream.told < stream.position
            await _send(send, sse.KEEP_ALIVE + (sse.place(stream.position) if behind else b""))
            stream.told = stream.position

    async def _is_allowed(self, stream: Stream) -> bool:
        """Whether the key still counts; while the database is away, it does."""
        try:
            return await self._key(stream.digest) is not None
        except (DatabaseUnavailable, DatabaseError):
            return True

    async def _key(self, digest: bytes) -> Key | None:
        known = self._context.directory.cached_key(digest)
        if known is not None:
            return known
        return await self._loop.run_in_executor(self._threads, self._context.directory.key, digest)

    async def _begin(self, stream: Stream) -> Stream:
        if not self._listening:
            self._listening = True
            self._bell.start()
        self._open.add(stream)
        self._count[stream.asked.wish.company_id] += 1
        try:
            days = self._context.settings.events_keep_days
            stream.position, stream.preface = await self._ask(sse.begin, stream.asked, days)
        except BaseException:
            self._remove(stream)
            raise
        stream.told = stream.position
        return stream

    def _remove(self, stream: Stream) -> None:
        self._open.discard(stream)
        self._count[stream.asked.wish.company_id] -= 1

    def _look_soon(self) -> None:
        self._rung = True
        if self._open and (self._look is None or self._look.done()):
            self._look = asyncio.ensure_future(self._look_for_new())

    async def _look_for_new(self) -> None:
        while self._rung and self._open:
            self._rung = False
            companies = {stream.asked.wish.company_id for stream in self._open}
            try:
                latest = await self._ask(feed.last, list(companies))
            except (DatabaseUnavailable, DatabaseError):
                return  # the bell rings again in a second
            for stream in self._open:
                if latest.get(stream.asked.wish.company_id, 0) > stream.position:
                    stream.stirred.set()

    async def _ask(self, question: Callable[..., T], *values: Any) -> T:
        def answer() -> T:
            with self._context.database.connection() as connection:
                return question(connection, *values)

        return await self._loop.run_in_executor(self._threads, answer)

    def _from_thread(self, action: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)


_READ = {b"x-api-key", b"authorization", b"last-event-id"}
_ASKED = ("company", "events", "session", "lastEventId")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Sending, preface: bytes) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in sse.HEADERS.items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _send(send, preface)


async def _send(send: Sending, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
