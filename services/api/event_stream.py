"""The streams of one API process: each is a coroutine that sends a company's events as they are raised.

One listener wakes all streams. A stream reads its next events only after its client has received the last ones, so a
slow client costs no memory.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog

from services.api import sse
from services.api.auth import find_key, key_digest, principal_of
from services.api.context import Context
from services.api.field_names import parameters
from services.api.sse import StreamRequest
from services.database.announcements import ANNOUNCEMENT_WAIT_SECONDS, IDLE_WAIT_SECONDS, Listener
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.events import feed
from services.events.store import CHANNEL
from services.http_server.asgi import address_of, disconnection
from services.http_server.error_codes import RETRY_LATER_SECONDS, ErrorCode, retry_after
from services.http_server.errors import ApiError
from services.http_server.shutdown import on_termination
from services.runtime.account_cache import Key

PATH = "/api/events"
#: Streams that one company may have open in one API process.
MAX_STREAMS = 20
#: Seconds without an event after which a comment is sent, so that no proxy closes the connection.
KEEP_ALIVE_SECONDS = 15.0
#: Seconds after which the key of an idle stream is checked, even if no change of keys is announced.
KEY_CHECK_SECONDS = 3.0
#: Seconds before an unavailable database is asked again.
RETRY_SECONDS = 1.0
#: Threads that query the database for all streams together.
QUERY_THREADS = 4

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Sending = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")

log = structlog.get_logger()


class Stream:
    """One client's stream."""

    def __init__(self, digest: bytes, request: StreamRequest) -> None:
        self.digest = digest  # of the key that opened it
        self.request = request
        self.preface = b""  # the first bytes of the stream
        self.position = 0  # the number of the last event that was read
        self.sent_position = 0  # the last position that the client knows
        self.changed = asyncio.Event()  # there may be new events, or the stream must end


class Streams:
    """Opens and serves streams on the event loop that it is made on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._open: set[Stream] = set()
        self._count: Counter[str] = Counter()
        self._ended = False
        self._threads = ThreadPoolExecutor(QUERY_THREADS, "streams")
        self._listener = Listener(
            context.database, CHANNEL, lambda: self._from_thread(self._check_soon),
            lambda: ANNOUNCEMENT_WAIT_SECONDS if self._open else IDLE_WAIT_SECONDS,
        )  # fmt: skip
        self._listening = False
        self._check: asyncio.Task[None] | None = None
        self._announced = False
        context.accounts.on_change(lambda: self._from_thread(self._check_keys))
        on_termination(self.end)

    async def open(self, scope: Scope) -> Stream:
        """A stream for the request. Raises `ApiError`, `DatabaseUnavailable`."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
        digest = key_digest(headers.get(b"x-api-key"), headers.get(b"authorization"))
        address = address_of(scope)
        look_up = partial(find_key, self._context.accounts, self._context.quotas, digest, address)
        principal = principal_of(await self._key(digest, look_up))
        self._context.quotas.take_request(principal.company_id)
        query = parameters(scope["query_string"], _PARAMETERS)
        company, events, session, last = (query.get(name) for name in _PARAMETERS)
        request = sse.parse(principal, company, events, session, headers.get(b"last-event-id") or last)
        company_id = request.filter.company_id
        if self._count[company_id] >= MAX_STREAMS:
            message = f"company {company_id} has {MAX_STREAMS} streams open here already; close one first"
            raise ApiError(ErrorCode.TOO_MANY_STREAMS, message, retry_after(RETRY_LATER_SECONDS))
        return await self._begin(Stream(digest, request))

    async def serve(self, stream: Stream, receive: Receive, send: Sending) -> None:
        """Send the stream's events until its client disconnects, its key is revoked, or the process ends."""
        disconnected = asyncio.ensure_future(disconnection(receive))
        disconnected.add_done_callback(lambda _: stream.changed.set())
        try:
            await _start(send, stream.preface)
            while not (disconnected.done() or self._ended) and await self._is_allowed(stream):
                await self._advance(stream, send)
        finally:
            disconnected.cancel()
            self._remove(stream)
        await send({"type": "http.response.body", "body": b""})

    def close(self) -> None:
        """End all streams and stop the threads."""
        self.end()
        self._threads.shutdown(wait=False)

    def end(self) -> None:
        """End all streams: their clients reconnect, perhaps to another process."""
        self._ended = True
        self._listener.stop()
        for stream in self._open:
            stream.changed.set()

    async def _advance(self, stream: Stream, send: Sending) -> None:
        stream.changed.clear()
        try:
            sent = await self._send_new(stream, send)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("stream.database_unavailable", reason=str(error).strip())
            await asyncio.sleep(RETRY_SECONDS)
            return
        if not (sent or self._ended):
            await self._wait(stream, send)

    async def _send_new(self, stream: Stream, send: Sending) -> bool:
        """Send new events; returns whether there may be more."""
        before = stream.position
        found, stream.position = await self._query(feed.read, stream.request.filter, before, sse.BATCH)
        if found:
            await _send(send, b"".join(sse.event_block(event) for _, event in found))
            stream.sent_position = found[-1][0]
        return stream.position > before

    async def _wait(self, stream: Stream, send: Sending) -> None:
        end = self._loop.time() + KEEP_ALIVE_SECONDS
        while (left := end - self._loop.time()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(stream.changed.wait(), min(left, KEY_CHECK_SECONDS))
            if stream.changed.is_set() or not await self._is_allowed(stream):
                return
        is_behind = stream.sent_position < stream.position
        await _send(send, sse.KEEP_ALIVE + (sse.position_id(stream.position) if is_behind else b""))
        stream.sent_position = stream.position

    async def _is_allowed(self, stream: Stream) -> bool:
        """Whether the key is still valid. While the database is unavailable, it counts as valid."""
        try:
            return await self._key(stream.digest, lambda: self._context.accounts.key(stream.digest)) is not None
        except (DatabaseUnavailable, DatabaseError):
            return True

    async def _key(self, digest: bytes, look_up: Callable[[], Key | None]) -> Key | None:
        """`look_up` may ask the database."""
        known = self._context.accounts.cached_key(digest)
        if known is not None:
            return known
        return await self._loop.run_in_executor(self._threads, look_up)

    async def _begin(self, stream: Stream) -> Stream:
        if not self._listening:
            self._listening = True
            self._listener.start()
        self._open.add(stream)
        self._count[stream.request.filter.company_id] += 1
        try:
            days = self._context.settings.events_keep_days
            stream.position, stream.preface = await self._query(sse.begin, stream.request, days)
        except BaseException:
            self._remove(stream)
            raise
        stream.sent_position = stream.position
        return stream

    def _remove(self, stream: Stream) -> None:
        self._open.discard(stream)
        self._count[stream.request.filter.company_id] -= 1

    def _check_keys(self) -> None:
        for stream in self._open:
            stream.changed.set()  # it checks its key before it continues

    def _check_soon(self) -> None:
        self._announced = True
        if self._open and (self._check is None or self._check.done()):
            self._check = asyncio.ensure_future(self._check_for_new())

    async def _check_for_new(self) -> None:
        while self._announced and self._open:
            self._announced = False
            companies = {stream.request.filter.company_id for stream in self._open}
            try:
                latest = await self._query(feed.last, list(companies))
            except (DatabaseUnavailable, DatabaseError):
                return  # the listener calls again within a second
            for stream in self._open:
                if latest.get(stream.request.filter.company_id, 0) > stream.position:
                    stream.changed.set()

    async def _query(self, query: Callable[..., T], *values: Any) -> T:
        def run() -> T:
            with self._context.database.connection() as connection:
                return query(connection, *values)

        return await self._loop.run_in_executor(self._threads, run)

    def _from_thread(self, action: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)


_HEADERS = {b"x-api-key", b"authorization", b"last-event-id"}
_PARAMETERS = ("company", "events", "session", "lastEventId")


async def _start(send: Sending, preface: bytes) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in sse.HEADERS.items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _send(send, preface)


async def _send(send: Sending, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
