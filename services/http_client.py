"""HTTP towards others: requests that are in flight together on one thread, through libcurl.

`RequestsInFlight` marks each request right before its body may leave, so that one whose answer is lost is known to have
left or not. `guard` confines requests to addresses of the public internet, for URLs that somebody else chose (SSRF
protection). It checks the address when the socket is opened, after every name is resolved and for every redirect, which
prevents DNS rebinding.
"""

import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pycurl
import structlog

from bisnesctl.setting_types import Network
from services.http_exchange import Answered, Broken, HttpRequest
from services.public_addresses import may_reach

#: Seconds after which an idle connection is not used again: the other side may be about to close it.
MAX_IDLE_SECONDS = 30
#: Milliseconds to connect, TLS included.
CONNECT_TIMEOUT_MS = 5000
#: Bytes of an answer that are kept; a provider's answers have a few hundred.
MAX_ANSWER_BYTES = 1 << 20

#: The reason for a refused address. It does not contain the address: the author of the URL must not learn the address
#: of a name in the operator's network. The log has it.
REFUSED_ADDRESS = (
    "the address of its host is not a public address (the operator can open networks with ALLOWED_NETWORKS)"
)

log = structlog.get_logger()


#: Makes libcurl end the request.
_ABORT: int = pycurl.READFUNC_ABORT
#: Errors of libcurl that are neither the network's nor the server's.
_INTERNAL = (
    pycurl.E_ABORTED_BY_CALLBACK,
    pycurl.E_READ_ERROR,
    pycurl.E_OUT_OF_MEMORY,
    pycurl.E_BAD_FUNCTION_ARGUMENT,
    pycurl.E_FAILED_INIT,
)

_CUT = "the connection was cut after the request had left, before the answer came"
#: Errors of libcurl after the request has left, in plain words.
_AFTER_SEND = {
    pycurl.E_GOT_NOTHING: _CUT,
    pycurl.E_PARTIAL_FILE: _CUT,
    pycurl.E_RECV_ERROR: _CUT,
    pycurl.E_SEND_ERROR: _CUT,
    pycurl.E_SEND_FAIL_REWIND: _CUT,
    pycurl.E_OPERATION_TIMEDOUT: "the request had left, and the answer did not come in time",
}


class RequestBody:
    """A body that libcurl reads piece by piece, and the mark that is set before the first byte of it may leave."""

    __slots__ = ("_content", "_leaving", "_position", "failure", "handed")

    def __init__(self, content: bytes, leaving: Callable[[], None]) -> None:
        self._content, self._leaving = content, leaving
        self._position = 0
        self.handed = False
        self.failure: str | None = None  # why `leaving` did not let it go

    def read(self, size: int) -> bytes | int:
        """libcurl's READFUNCTION: the next bytes, at most `size`; none at the end."""
        if not self.handed and not self.hand_over():
            return _ABORT
        piece = self._content[self._position : self._position + size]
        self._position += len(piece)
        return piece

    def hand_over(self) -> bool:
        """Mark that the body leaves now; False if the mark could not be set, so that nothing may leave."""
        try:
            self._leaving()
        except Exception as error:
            self.failure = f"the request was not sent: {type(error).__name__}: {error}"
            return False
        self.handed = True
        return True


class AnswerBody:
    """The beginning of an answer, up to a limit. Further bytes end the transfer, and do not change the status."""

    __slots__ = ("content", "limit", "truncated")

    def __init__(self, limit: int) -> None:
        """`limit`: bytes that are kept."""
        self.content, self.limit = bytearray(), limit
        self.truncated = False

    def write(self, piece: bytes) -> int | None:
        """libcurl's WRITEFUNCTION."""
        room = self.limit - len(self.content)
        self.content += piece[:room]
        if len(piece) <= room:
            return None
        self.truncated = True
        return -1  # libcurl then ends the transfer with an error, and closes the connection


class RequestsInFlight:
    """HTTP requests in flight. Not safe for threads: one thread owns it."""

    def __init__(self, size: int, timeout_ms: int, open_networks: Sequence[Network] | None = None) -> None:
        """`timeout_ms`: milliseconds for a whole request. With `open_networks`, requests are confined, see `guard`."""
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, size)
        self._idle = [_handle(timeout_ms) for _ in range(size)]
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._open_networks = open_networks
        self._watched: int | None = None
        self._is_watched_readable = False  # as the last wait found it
        self.size = size
        self.in_flight = 0

    def watch(self, descriptor: int | None) -> None:
        """A file descriptor that ends a wait when it can be read, besides the network; None: no other."""
        self._watched, self._is_watched_readable = descriptor, False

    def is_watched_readable(self) -> bool:
        """Whether the last wait found that the watched descriptor can be read."""
        return self._is_watched_readable

    def submit(self, ticket: Any, request: HttpRequest, leaving: Callable[[], None]) -> None:
        """Send a request. `leaving` is called once, right before the body goes to the socket."""
        body, answer = RequestBody(request.body, leaving), AnswerBody(MAX_ANSWER_BYTES)
        if not request.body:  # libcurl asks for nothing then
            body.hand_over()
        handle = self._idle.pop()
        handle.ticket, handle.body, handle.answer = ticket, body, answer
        handle.gate = None if self._open_networks is None else guard(handle, self._open_networks)
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.HTTPHEADER, [*request.headers, "Expect:"])
        handle.setopt(pycurl.POSTFIELDSIZE_LARGE, len(request.body))
        handle.setopt(pycurl.READFUNCTION, body.read)
        handle.setopt(pycurl.WRITEFUNCTION, answer.write)
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
            ended += [self._end(handle) for handle in done]
            ended += [self._end(handle, code, text) for handle, code, text in failed]
        return ended

    def interrupt(self) -> None:
        """End a wait that is under way, or the next one. Safe for any thread."""
        os.eventfd_write(self._waker, 1)

    def wait(self, seconds: float | None) -> None:
        """Wait until the watched descriptor can be read or `interrupt` is called, while nothing is in flight."""
        self._select([], [], seconds)

    def _wait(self, seconds: float) -> None:
        reading, writing, _ = self._multi.fdset()
        timer = self._multi.timeout()  # milliseconds until libcurl has something to do, or -1
        self._select(reading, writing, min(seconds, timer / 1000) if timer >= 0 else seconds)

    def _select(self, reading: list[int], writing: list[int], seconds: float | None) -> None:
        watched = () if self._watched is None else (self._watched,)
        ready, _, _ = select.select([*reading, self._waker, *watched], writing, [], seconds)
        if self._waker in ready:
            os.eventfd_read(self._waker)
        self._is_watched_readable = self._watched in ready

    def _end(self, handle: Any, code: int = pycurl.E_OK, text: str = "") -> tuple[Any, Answered | Broken]:
        self._multi.remove_handle(handle)
        self.in_flight -= 1
        self._idle.append(handle)
        status, body, answer = handle.getinfo(pycurl.RESPONSE_CODE), handle.body, handle.answer
        if code == pycurl.E_OK or answer.truncated:
            return handle.ticket, Answered(status, bytes(answer.content))
        left = body.handed and handle.getinfo(pycurl.REQUEST_SIZE) > 0  # the socket took bytes of it
        if code == pycurl.E_SEND_FAIL_REWIND and not left:  # libcurl would have repeated it on another connection
            text = "the connection was closed before anything was sent"
        elif left:
            text = _AFTER_SEND.get(code, text)
        refused = REFUSED_ADDRESS if handle.gate and handle.gate.refused else None
        reason = body.failure or refused or text or f"curl error {code}"
        return handle.ticket, Broken(reason, left, status, code in _INTERNAL)

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
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, min(CONNECT_TIMEOUT_MS, timeout_ms))
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.MAXAGE_CONN, MAX_IDLE_SECONDS)
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    return handle


class Gate:
    """Opens sockets for libcurl, to permitted addresses alone."""

    def __init__(self, open_networks: Sequence[Network]) -> None:
        self._open_networks = open_networks
        self.refused: str | None = None  # the last address that was not permitted

    def __call__(self, purpose: int, address: Any) -> Any:
        """libcurl's OPENSOCKETFUNCTION: a socket, or word that there is none; raises nothing."""
        try:
            host = str(address.addr[0])
            if purpose == pycurl.SOCKTYPE_IPCXN and may_reach(host, self._open_networks):
                return socket.socket(address.family, address.socktype, address.protocol)
            self.refused = host
            log.warning("address.refused", address=host)
        except Exception:
            self.refused = "an address that cannot be read"
        return pycurl.SOCKET_BAD


def guard(handle: Any, open_networks: Sequence[Network]) -> Gate:
    """Confine a pycurl handle to http and https on the public internet and `open_networks`, without any proxy.

    A refused connection fails with E_COULDNT_CONNECT, and the gate has its address. Connections that libcurl reuses
    were checked when they were opened, so share them only between handles with the same networks.
    """
    gate = Gate(open_networks)
    handle.setopt(pycurl.OPENSOCKETFUNCTION, gate)
    handle.setopt(pycurl.PROXY, "")
    handle.setopt(pycurl.NOPROXY, "*")
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    return gate
