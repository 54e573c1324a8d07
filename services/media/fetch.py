"""Files fetched from anywhere on behalf of somebody else, without letting them reach into our own network.

The address is checked where the socket is opened, after all names are resolved and for every redirect: a name that
changes its mind between check and use gains nothing.
"""

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pycurl

from bisnesctl.settings import Network
from services.media import kinds

#: Redirects that are followed, at most.
MAX_REDIRECTS = 5
#: Milliseconds to connect, and seconds for a whole file.
CONNECT_TIMEOUT, PATIENCE = 5000, 60.0
#: IPv6 addresses that stand for an IPv4 one: of old, and behind a translator.
_TRANSLATED = (ip_network("::/96"), ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


class FetchRefused(Exception):
    """It will never be fetched: a private address, too large, another protocol, an answer such as 404."""


class FetchFailed(Exception):
    """It could not be fetched just now: no connection, too slow, an answer such as 503."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was fetched; it is there within the context alone."""

    path: Path
    mime_type: str  # as the bytes tell it, or the server
    size: int
    filename: str | None  # the last part of the address, if it looks like a name


def may_reach(address: str, open_networks: Sequence[Network]) -> bool:
    """Whether an IP address is one of the public internet, or of the networks that are open."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if any(found in network for network in open_networks if network.version == found.version):
        return True
    if isinstance(found, IPv6Address) and (found.sixtofour or found.teredo or any(found in net for net in _TRANSLATED)):
        return False
    return found.is_global and not found.is_multicast


def guard(handle: Any, open_networks: Sequence[Network]) -> Callable[[], str | None]:
    """Let a pycurl handle open sockets to permitted addresses alone, and use no proxy.

    Returns a function that says which address was refused, if one was. Connections that libcurl uses again were
    checked when they were opened.
    """
    refused: list[str] = []

    def open_socket(purpose: int, address: Any) -> Any:
        try:
            host = str(address.addr[0])
            if purpose != pycurl.SOCKTYPE_IPCXN or not may_reach(host, open_networks):
                refused.append(host)
                return pycurl.SOCKET_BAD
            return socket.socket(address.family, address.socktype, address.protocol)
        except Exception:
            return pycurl.SOCKET_BAD

    handle.setopt(pycurl.OPENSOCKETFUNCTION, open_socket)
    handle.setopt(pycurl.PROXY, "")
    handle.setopt(pycurl.NOPROXY, "*")
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    return lambda: refused[-1] if refused else None


class Fetcher:
    """Fetches files. Safe for threads."""

    def __init__(self, open_networks: Sequence[Network], seconds: float = PATIENCE) -> None:
        """`open_networks`: private networks that may be reached all the same; `seconds`: for one file."""
        self._open_networks, self._seconds = open_networks, seconds

    @contextlib.contextmanager
    def fetch(
        self, url: str, limit: int, headers: Sequence[str] = (), redirects: int = MAX_REDIRECTS
    ) -> Iterator[Fetched]:
        """The file at a http(s) address, of at most `limit` bytes, as long as the context lasts.

        `headers`: lines to send; they go to a redirect's target as well, so allow none where they hold a secret.
        Raises `FetchRefused` and `FetchFailed`; neither shows the address's query.
        """
        with tempfile.NamedTemporaryFile(prefix="bisnesctl-fetch-") as file:
            mime_type, size = self._download(url, limit, file, headers, redirects)
            file.flush()
            file.seek(0)
            mime_type = kinds.true_type(file.read(kinds.HEAD), mime_type)
            yield Fetched(Path(file.name), mime_type, size, _filename(url))

    def _download(self, url: str, limit: int, file: Any, headers: Sequence[str], redirects: int) -> tuple[str, int]:
        handle = pycurl.Curl()
        refused = guard(handle, self._open_networks)
        size = 0

        def write(chunk: bytes) -> int | None:
            nonlocal size
            size += len(chunk)
            if size > limit:
                return -1
            file.write(chunk)
            return None

        try:
            handle.setopt(pycurl.URL, url)
            handle.setopt(pycurl.HTTPHEADER, list(headers))
            handle.setopt(pycurl.FOLLOWLOCATION, int(redirects > 0))
            handle.setopt(pycurl.MAXREDIRS, redirects)
            handle.setopt(pycurl.TIMEOUT_MS, int(self._seconds * 1000))
            handle.setopt(pycurl.CONNECTTIMEOUT_MS, CONNECT_TIMEOUT)
            handle.setopt(pycurl.NOSIGNAL, 1)
            handle.setopt(pycurl.MAXFILESIZE_LARGE, limit)
            handle.setopt(pycurl.WRITEFUNCTION, write)
            handle.perform()
        except pycurl.error as error:
            raise _explained(error, refused(), size, limit) from None
        finally:
            status = handle.getinfo(pycurl.RESPONSE_CODE)
            mime_type = handle.getinfo(pycurl.CONTENT_TYPE) or ""
            handle.close()
        if status // 100 != 2:
            raise _of_status(status)
        return mime_type, size


#: libcurl's errors that another try would meet again: the protocol, the form of the address, too many redirects.
_FOR_GOOD = {pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_URL_MALFORMAT, pycurl.E_TOO_MANY_REDIRECTS}


def _explained(error: pycurl.error, refused: str | None, size: int, limit: int) -> Exception:
    code = error.args[0]
    if refused is not None:
        return FetchRefused(f"it leads to {refused}, which is not a public address (see ALLOWED_NETWORKS)")
    if size > limit or code == pycurl.E_FILESIZE_EXCEEDED:
        return FetchRefused(f"the file has more than {limit:,} bytes")
    if code in _FOR_GOOD:
        return FetchRefused(pycurl_words(code))
    return FetchFailed(pycurl_words(code))


def pycurl_words(code: int) -> str:
    """An error of libcurl without the address, which may hold a secret."""
    return _WORDS.get(code, f"the connection failed (libcurl error {code})")


_WORDS = {
    pycurl.E_UNSUPPORTED_PROTOCOL: "only http and https are fetched",
    pycurl.E_URL_MALFORMAT: "the address is malformed",
    pycurl.E_TOO_MANY_REDIRECTS: f"it is redirected more than {MAX_REDIRECTS} times",
    pycurl.E_COULDNT_RESOLVE_HOST: "the host's name is not known",
    pycurl.E_COULDNT_CONNECT: "no connection to the host",
    pycurl.E_OPERATION_TIMEDOUT: "it takes too long",
    pycurl.E_PEER_FAILED_VERIFICATION: "the host's certificate is not valid",
    pycurl.E_GOT_NOTHING: "the host answers nothing",
    pycurl.E_RECV_ERROR: "the connection broke",
    pycurl.E_PARTIAL_FILE: "the connection broke before the end",
}


def _of_status(status: int) -> Exception:
    passing = status in (408, 425, 429) or status >= 500
    return (FetchFailed if passing else FetchRefused)(f"the host answers {status}")


def _filename(url: str) -> str | None:
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return name if "." in name and name.isprintable() and len(name) <= 255 else None
