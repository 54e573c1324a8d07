"""One request for a file at an untrusted URL, through libcurl; those to private networks are blocked."""

import re
from collections.abc import Sequence
from typing import IO
from urllib.parse import urlsplit

import pycurl

from bisnesctl.setting_types import Network
from services.http_client import REFUSED_ADDRESS, Gate, guard
from services.media import names
from services.media.fetch_errors import FetchFailed, FetchRefused, FetchTooLarge

#: Milliseconds to connect.
CONNECT_TIMEOUT_MS = 5000
_STATUS_LINE = re.compile(r"HTTP/\S+ ([0-9]{3})", re.ASCII)


class Transfer:
    """One GET and its answer."""

    def __init__(self, url: str, limit: int, file: IO[bytes], open_networks: Sequence[Network]) -> None:
        _check(url)
        self._url, self._limit, self._file, self._open_networks = url, limit, file, open_networks
        self._status = 0
        self.size = 0
        self.mime_type = ""
        self.filename = names.of_url(url)
        self.location: str | None = None  # the target of a redirect

    def perform(self, headers: Sequence[str], seconds: float) -> None:
        """Raises `FetchRefused` and `FetchFailed`."""
        handle = pycurl.Curl()
        try:
            gate = guard(handle, self._open_networks)
            self._set_up(handle, headers, max(int(seconds * 1000), 1))
            try:
                handle.perform()
            except pycurl.error as error:
                raise self._explained(error.args[0], gate) from None
            self.location = handle.getinfo(pycurl.REDIRECT_URL)
        finally:
            handle.close()
        if self.location is None and self._status // 100 != 2:
            raise _of_status(self._status)

    def _set_up(self, handle: pycurl.Curl, headers: Sequence[str], milliseconds: int) -> None:
        handle.setopt(pycurl.URL, self._url.encode())
        handle.setopt(pycurl.HTTPHEADER, list(headers))
        handle.setopt(pycurl.TIMEOUT_MS, milliseconds)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(
            pycurl.ACCEPT_ENCODING, ""
        )  # every encoding that libcurl decodes; the limit is for the decoded bytes
        handle.setopt(pycurl.MAXFILESIZE_LARGE, self._limit)
        handle.setopt(pycurl.HEADERFUNCTION, self._take_header)
        handle.setopt(pycurl.WRITEFUNCTION, self._take)

    def _take_header(self, line: bytes) -> None:
        text = line.decode("latin-1").strip()
        if answer := _STATUS_LINE.match(text):
            self._status = int(answer[1])
        name, _, value = text.partition(":")
        if name.lower() == "content-type":
            self.mime_type = value.strip()
        elif name.lower() == "content-disposition":
            self.filename = names.of_header(value.strip().encode("latin-1")) or self.filename

    def _take(self, chunk: bytes) -> int | None:
        self.size += len(chunk)
        if self.size > self._limit:
            return -1
        if self._status // 100 == 2:  # the body of a redirect or an error is not needed
            self._file.write(chunk)
        return None

    def _explained(self, code: int, gate: Gate) -> Exception:
        if self._status // 100 not in (0, 1, 2, 3):
            return _of_status(self._status)
        if self.size > self._limit or code == pycurl.E_FILESIZE_EXCEEDED:
            return FetchTooLarge(f"the file has more than {self._limit} bytes")
        if gate.refused and code == pycurl.E_COULDNT_CONNECT:
            return FetchRefused(REFUSED_ADDRESS)
        if code in (pycurl.E_URL_MALFORMAT, pycurl.E_UNSUPPORTED_PROTOCOL):
            return FetchRefused("the address is malformed")
        return FetchFailed(_PASSING.get(code, f"the connection failed (libcurl error {code})"))


#: libcurl's errors in words that show no address.
_PASSING = {
    pycurl.E_COULDNT_RESOLVE_HOST: "the host's name is not known",
    pycurl.E_COULDNT_CONNECT: "no connection to the host",
    pycurl.E_OPERATION_TIMEDOUT: "it takes too long",
    pycurl.E_PEER_FAILED_VERIFICATION: "the host's certificate is not valid",
    pycurl.E_GOT_NOTHING: "the host answers nothing",
    pycurl.E_RECV_ERROR: "the connection broke",
    pycurl.E_BAD_CONTENT_ENCODING: "its content is not in the encoding that the host names",
    pycurl.E_PARTIAL_FILE: "the connection broke before the end",
}


def _check(url: str) -> None:
    """Raise `FetchRefused` for anything that is no URL; libcurl checks more later."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if not scheme or not url.isprintable() or any(sign.isspace() for sign in url):
        raise FetchRefused("the address is malformed")
    if scheme not in ("http", "https"):
        raise FetchRefused("only http and https are fetched")


def _of_status(status: int) -> Exception:
    passing = status in (408, 425, 429) or status >= 500
    reason = f"the host answers {status}"
    return FetchFailed(reason) if passing else FetchRefused(reason, status)
