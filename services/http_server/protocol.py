"""HTTP/1.1 on a connection: uvicorn's protocol with limits, deadlines, and one request at a time.

The deadlines of all connections are checked once a second by one timer, so that a request costs no timer of its own.
A client that pipelines is answered once, then the connection is closed: that is what RFC 9112 (9.3.2) allows.
"""

import asyncio
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from services.http_server import refusal, request_ids
from services.http_server.limits import Limits
from services.http_server.refusal import Refusal

#: Headers that decide the caller and the body: if one is given twice, two readers could see two requests.
_SINGLE = (
    *(b"transfer-encoding", b"authorization", b"content-length", b"content-type", b"host"),
    *(b"idempotency-key", b"last-event-id", b"x-api-key"),
)
_BITS = {name: 1 << place for place, name in enumerate(_SINGLE)}

#: The key of an ASGI scope with the method `HttpProtocol.answer` of its connection.
ANSWER = "bisnes.answer"

log = structlog.get_logger()


class _Stop(Exception):
    """Ends the parser within a callback."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[Limits] = Limits()

    _head_bytes: int  # of the current head, so far
    _raw_body_bytes: int  # of the current body, with its chunks' sizes and extensions and its trailers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, if there is room or another one can be closed."""
        super().connection_made(transport)
        self._refusal: Refusal | None = None  # why the parser stopped
        self._request_id = b""  # of the last request whose head was read, or is being read; empty: not known yet
        self._deaf = False  # all input is dropped
        self._is_ending = False  # the process is to end
        self._offers_upgrade = False  # the head that was read offers another protocol
        self._is_idle = False  # a request was answered, and no byte of the next one has arrived
        self._since = self._body_began = self.loop.time()  # since when the client is waited for
        self._body_bytes = self._window_bytes = self._raw_body_bytes = 0
        self._begin_head()
        self._write_pending, self._write_since, self._drained = 0, self._since, False
        Sweep.of(self.server_state, self.loop, self.limits).run()
        if len(self.connections) > self.limits.max_connections and not self._displace():
            self._refuse(refusal.too_many_connections())

    def _displace(self) -> bool:
        """Close the connection that has kept us waiting longest; a flood of them never locks out new ones."""
        waiting = [each for each in self.connections if each is not self and each.waits_for_client()]  # type: ignore[union-attr]
        if not waiting:
            return False
        min(waiting, key=lambda each: each.waiting_since()).abort()  # type: ignore[union-attr]
        return True

    # --- Input ----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Count it, then parse it."""
        if self._deaf:
            return
        if not self._in_head:
            self._raw_body_bytes += len(data)
        elif self._head_bytes:
            self._head_bytes += len(data)
        else:
            self._since, self._is_idle, self._head_bytes = self.loop.time(), False, len(data)
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse(self._without_upgrade() + data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._stopped()
        else:
            if self._in_head:
                if self._head_bytes > self.limits.max_head_bytes:
                    self._refuse(self._headers_too_large())
            elif self._raw_body_bytes > self.limits.max_framing_bytes + 9 * self._body_bytes:
                self._refuse(refusal.malformed())

    def _stopped(self) -> None:
        if self._refusal is None and self._is_answering() and self._in_head:  # pipelined: the first is answered alone
            self._end_after_answer()
        else:
            self._refuse(self._refusal or refusal.malformed())

    def _without_upgrade(self) -> bytes:
        """The head of a request that offers another protocol, which may be ignored (RFC 9110, 7.8): Java's client
        offers HTTP/2 with every request. The parser has ended with it; another one reads the rest."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # like uvicorn's
        self._offers_upgrade, self._header_count, self._singles = False, 0, 0
        lines = [b"%s: %s" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join((b"%s %s HTTP/%s" % (method, self.url, version), *lines, b"", b""))

    def _stop(self, reason: Refusal) -> None:
        self._refusal = reason
        raise _Stop

    def on_message_begin(self) -> None:
        """One request at a time."""
        if self._is_answering():
            raise _Stop
        self._request_id = b""
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count it."""
        super().on_url(url)
        if len(self.url) > self.limits.max_url_bytes:
            self._stop(refusal.url_too_long(self.limits.max_url_bytes))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count it; trailers are dropped, since the request has begun without them."""
        self._header_count += 1
        if self._header_count > self.limits.max_headers:
            self._stop(self._headers_too_large())
        if not self._in_head:
            return
        name = name.lower()
        if bit := _BITS.get(name):
            if self._singles & bit:
                self._stop(refusal.repeated(name.decode("latin-1")))
            self._singles |= bit
            if bit == 1 and value.strip().lower() != b"chunked":
                self._stop(refusal.unknown_transfer_encoding())
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == request_ids.HEADER and not self._request_id and request_ids.is_sound(value):
            self._request_id = value
        self.headers.append((name, value))

    def _headers_too_large(self) -> Refusal:
        return refusal.headers_too_large(self.limits.max_headers, self.limits.max_head_bytes)

    def on_headers_complete(self) -> None:
        """The body begins."""
        limit = self.limits.max_head_bytes
        if self._head_bytes > limit and sum(len(name) + len(value) for name, value in self.headers) > limit:
            self._stop(self._headers_too_large())  # otherwise it was the body that came with the head
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop(refusal.malformed())
            self._offers_upgrade = True
            return
        self._in_head = False
        self._body_began = self._since = self.loop.time()
        self._body_bytes = self._window_bytes = self._raw_body_bytes = 0
        if not self._request_id:
            self._request_id = request_ids.make().encode()
        self.scope[request_ids.KEY] = self._request_id.decode()  # type: ignore[literal-required]
        self.scope[ANSWER] = self.answer  # type: ignore[literal-required]
        super().on_headers_complete()
        self.cycle.default_headers = [*self.cycle.default_headers, (request_ids.HEADER, self._request_id)]
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count it."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete; a head may follow once it is answered."""
        if self._offers_upgrade:  # only its head was read
            return
        super().on_message_complete()
        self._begin_head()
        if not self._is_answering():
            self._since, self._is_idle = self.loop.time(), True

    def _begin_head(self) -> None:
        self._in_head = True
        self._head_bytes = self._header_count = self._singles = 0

    # --- Output ----------------------------------------------------------------------------------------------------

    def answer(self, status: int, body: bytes) -> bool:
        """Answer the request with JSON in one write; False if that must wait, and ASGI's way is to be used."""
        cycle = self.cycle
        if cycle.response_started or cycle.disconnected or self.flow.write_paused:
            return False
        lines = [STATUS_LINE[status]]
        lines += [b"%s: %s\r\n" % header for header in cycle.default_headers]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(b"".join((*lines, body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        """The connection waits for the next request; its deadline is the sweep's."""
        self.server_state.total_requests += 1
        self._since, self._is_idle = self.loop.time(), self._in_head
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._deaf:
            self.transport.close()

    def resume_writing(self) -> None:
        """The client reads its answer."""
        self._drained = True
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request in our form."""
        self._refuse(refusal.malformed())

    def _is_answering(self) -> bool:
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.disconnected

    def _end_after_answer(self) -> None:
        """Accept no more input; close once the answer is sent."""
        self._deaf = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def _refuse(self, reason: Refusal) -> None:
        """Answer instead of the application, unless it has begun to, and close."""
        cycle, begun = self.cycle, False
        if cycle is not None and not cycle.response_complete:
            begun = cycle.response_started
            self._forget_cycle(cycle)
        if begun or (cycle is not None and cycle.response_complete and not self._in_head):  # answered already
            self.abort()
            return
        self._deaf, self._since = True, self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self.transport.write(reason.response(self._request_id.decode() or request_ids.make()))
        self.transport.write_eof()  # further input is read and dropped, see `Limits.linger_seconds`

    def _forget_cycle(self, cycle: RequestResponseCycle) -> None:
        """To its application, the client has disconnected."""
        cycle.disconnected = True
        cycle.message_event.set()
        self.flow.resume_writing()

    def shutdown(self) -> None:
        """Close once its request is answered; a request on its way would be lost if we closed at once."""
        self._is_ending = True
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(self.limits.last_request_seconds, self._close_unless_answering)

    def _close_unless_answering(self) -> None:
        if not self._is_answering():
            self.transport.close()

    def abort(self) -> None:
        """Close at once; unsent data is lost."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_cycle(self.cycle)
        self._deaf = True
        self.transport.abort()

    # --- Deadlines -------------------------------------------------------------------------------------------------

    def waits_for_client(self) -> bool:
        """Whether the next step is the client's: to send its request or the rest of it, or to read its answer."""
        return not self._in_head or not self._is_answering() or self.flow.write_paused

    def waiting_since(self) -> float:
        """Since when, in the loop's time."""
        return self._write_since if self.flow.write_paused else self._since

    def check(self, now: float) -> None:
        """Close the connection if a deadline has passed."""
        if self._is_write_stalled(now):
            log.info("connection.closed", reason="the client does not read its answer", client=self.client)
            self.abort()
        elif self._deaf:
            if not self._is_answering() and now - self._since > self.limits.linger_seconds:
                self.abort()
        elif self._in_head:
            if not self._is_answering():
                self._check_head(now)
        else:
            self._check_body(now)

    def _check_head(self, now: float) -> None:
        limits, waited = self.limits, now - self._since
        if self._is_idle:
            if waited > limits.keep_alive_seconds:
                self.transport.close()
        elif waited > limits.head_timeout_seconds:
            if self._head_bytes:
                self._refuse(refusal.request_timeout("head"))
            else:  # a client that connects ahead would take an answer for that of its first request
                self.transport.close()

    def _check_body(self, now: float) -> None:
        limits = self.limits
        if not self._is_answering():  # answered already: only the rest is awaited
            if now - self._body_began > limits.discard_timeout_seconds:
                self.abort()
        elif self.flow.read_paused:  # it waits for us
            self._since = now
        elif now - self._body_began > limits.body_timeout_seconds:
            self._refuse(refusal.request_timeout("body"))
        elif now - self._since > limits.body_window_seconds:
            if self._body_bytes - self._window_bytes < limits.min_body_bytes_per_window:
                self._refuse(refusal.request_timeout("body"))
            self._since, self._window_bytes = now, self._body_bytes

    def _is_write_stalled(self, now: float) -> bool:
        pending = self.transport.get_write_buffer_size()
        if not pending or not self._write_pending or self._drained or pending < self._write_pending:
            self._write_since = now
        self._write_pending, self._drained = pending, False
        return pending > 0 and now - self._write_since > self.limits.write_timeout_seconds


class Sweep:
    """Checks the deadlines of all connections of a server, as long as there are any."""

    _of: ClassVar["WeakKeyDictionary[ServerState, Sweep]"] = WeakKeyDictionary()

    def __init__(self, connections: set[Any], loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._connections, self._loop, self._seconds = connections, loop, seconds
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, server: ServerState, loop: asyncio.AbstractEventLoop, limits: Limits) -> "Sweep":
        """The one of this server."""
        sweep = cls._of.get(server)
        if sweep is None:
            sweep = cls._of[server] = cls(server.connections, loop, limits.sweep_seconds)
        return sweep

    @classmethod
    def open_connections(cls) -> int:
        """Connections of clients to the servers of this process. For any thread."""
        return sum(len(sweep._connections) for sweep in list(cls._of.values()))

    def run(self) -> None:
        """Check from now on."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        now = self._loop.time()
        for connection in list(self._connections):
            try:
                connection.check(now)
            except Exception:
                log.exception("connection.deadline_check_failed")
        if self._connections:
            self.run()
