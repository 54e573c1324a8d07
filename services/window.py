"""Many HTTP requests in flight at once from one thread, over kept-alive connections (libcurl's multi interface)."""

import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pycurl

from services.connectors.base import HttpRequest
from services.message import Outcome

#: Seconds after which an idle connection is not used again: the other side may be about to close it.
MAX_IDLE = 30
#: Milliseconds to connect, TLS included.
CONNECT_TIMEOUT = 5000
#: Bytes of an answer that are kept; a provider's answers have a few hundred.
MAX_ANSWER = 1 << 20


#: Sets further options of a libcurl handle before each request; returns what says why they broke it, if they did.
Prepare = Callable[[Any], Callable[[], str | None]]


@dataclass(frozen=True, slots=True)
class Answered:
    """A complete answer."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """No complete answer. `handed`: whether the request's body had been given to the socket."""

    reason: str
    handed: bool


class Window(Protocol):
    """What a delivery hands its requests to: at most `size` are in flight."""

    size: int
    in_flight: int

    def submit(self, ticket: Any, request: Any, leaving: Callable[[], None]) -> None:
        """Send a request of the kind that the channel's connector makes. `leaving` is called before it may be sent."""

    def poll(self, seconds: float) -> Sequence[tuple[Any, Answered | Broken | Outcome | None]]:
        """Wait up to `seconds` and return the requests that ended, each with its ticket and what became of it.

        An answer is for the connector to understand; None says that no attempt was made.
        """

    def interrupt(self) -> None:
        """End a wait that is under way, or the next one. Safe for any thread."""


class HttpWindow:
    """HTTP requests in flight. Not safe for threads: one thread owns it."""

    def __init__(self, size: int, timeout_ms: int, prepare: Prepare | None = None) -> None:
        """`timeout_ms`: milliseconds for a whole request."""
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, size)
        self._idle = [_handle(timeout_ms) for _ in range(size)]
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._prepare = prepare
        self.size = size
        self.in_flight = 0

    def submit(self, ticket: Any, request: HttpRequest, leaving: Callable[[], None]) -> None:
        """Send a request. `leaving` is called once, right before the body goes to the socket."""
        handle = self._idle.pop()
        handle.ticket, handle.answer, handle.handed = ticket, bytearray(), False

        def body(_: int) -> bytes:
            if handle.handed:
                return b""
            leaving()
            handle.handed = True
            return request.body

        handle.explain = self._prepare(handle) if self._prepare else None
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.HTTPHEADER, [*request.headers, "Expect:"])
        handle.setopt(pycurl.POSTFIELDSIZE, len(request.body))
        handle.setopt(pycurl.READFUNCTION, body)
        handle.setopt(pycurl.WRITEFUNCTION, handle.answer.extend)
        self._multi.add_handle(handle)
        self.in_flight += 1

    def poll(self, seconds: float) -> list[tuple[Any, Answered | Broken]]:
        """Wait up to `seconds` for the network and return the requests that ended, each with its ticket."""
        self._wait(seconds)
        while self._multi.perform()[0] == pycurl.E_CALL_MULTI_PERFORM:
            pass
        ended: list[tuple[Any, Answered | Broken]] = []
        more = 1
        while more:
            more, done, failed = self._multi.info_read()
            ended += [self._end(handle, None) for handle in done]
            ended += [self._end(handle, reason or f"curl error {code}") for handle, code, reason in failed]
        return ended

    def interrupt(self) -> None:
        """End a wait that is under way, or the next one. Safe for any thread."""
        os.eventfd_write(self._waker, 1)

    def _wait(self, seconds: float) -> None:
        reading, writing, _ = self._multi.fdset()
        timer = self._multi.timeout()  # milliseconds until libcurl has something to do, or -1
        limit = min(seconds, timer / 1000) if timer >= 0 else seconds
        ready, _, _ = select.select([*reading, self._waker], writing, [], limit)
        if self._waker in ready:
            os.eventfd_read(self._waker)

    def _end(self, handle: Any, broken: str | None) -> tuple[Any, Answered | Broken]:
        self._multi.remove_handle(handle)
        self.in_flight -= 1
        self._idle.append(handle)
        if broken is not None:
            return handle.ticket, Broken((handle.explain and handle.explain()) or broken, handle.handed)
        return handle.ticket, Answered(handle.getinfo(pycurl.RESPONSE_CODE), bytes(handle.answer))

    def close(self) -> None:
        """Close the connections."""
        self._multi.close()
        os.close(self._waker)


def _handle(timeout_ms: int) -> Any:
    """A handle without a SEEKFUNCTION: libcurl then cannot rewind the body, and so cannot repeat by itself a POST whose
    reused connection broke before the answer (it would, and the message would be doubled)."""
    handle = pycurl.Curl()
    handle.setopt(pycurl.POST, 1)
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    handle.setopt(pycurl.TIMEOUT_MS, timeout_ms)
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, min(CONNECT_TIMEOUT, timeout_ms))
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.MAXAGE_CONN, MAX_IDLE)
    handle.setopt(pycurl.MAXFILESIZE, MAX_ANSWER)
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    return handle
