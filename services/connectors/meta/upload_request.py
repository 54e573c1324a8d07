"""Calls to the provider beside the sends: the upload of a file, streamed from disk, and a GET without side effects."""

from pathlib import Path
from typing import Any

import pycurl

from services.http_client import CONNECT_TIMEOUT_MS, MAX_ANSWER_BYTES, AnswerBody

#: Limit for a whole upload: 100 MB at 1.4 Mbit/s.
UPLOAD_TIMEOUT_SECONDS = 600
#: Limit for a GET.
GET_TIMEOUT_MS = 5000

#: The errors of libcurl that occur before anything is sent: names, connections, proxies, TLS.
_NOT_CONNECTED = {
    pycurl.E_COULDNT_RESOLVE_PROXY, pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT, pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_SSL_CERTPROBLEM, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CIPHER,
}  # fmt: skip


class NotConnected(ConnectionError):
    """The provider could not be reached at all."""


def post_file(url: str, header: str, path: Path, mime_type: str, stall_timeout_ms: int) -> tuple[int, bytes]:
    """Upload a file (Cloud API reference, "Media"); returns the answer's status and body.

    `header` holds the credential. Raises ConnectionError if there is no complete answer, or if no byte moves for about
    `stall_timeout_ms`; `NotConnected` if nothing was sent.
    """
    answer = AnswerBody(MAX_ANSWER_BYTES)
    handle = pycurl.Curl()
    try:
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.HTTPHEADER, [header, "Expect:"])
        handle.setopt(pycurl.MIMEPOST, _form(handle, path, mime_type))
        handle.setopt(pycurl.WRITEFUNCTION, answer.write)
        _limit(handle, stall_timeout_ms)
        return _perform(handle, answer)
    except pycurl.error as error:
        code, reason = error.args
        if code in _NOT_CONNECTED:
            raise NotConnected(reason) from None
        raise ConnectionError(f"the upload was cut off: {reason}") from None
    finally:
        handle.close()


def get(url: str, header: str) -> tuple[int, bytes]:
    """GET; returns the answer's status and body. Raises ConnectionError if there is no complete answer."""
    answer = AnswerBody(MAX_ANSWER_BYTES)
    handle = pycurl.Curl()
    try:
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.HTTPHEADER, [header])
        handle.setopt(pycurl.WRITEFUNCTION, answer.write)
        _limit(handle, GET_TIMEOUT_MS)
        handle.setopt(pycurl.TIMEOUT_MS, GET_TIMEOUT_MS)
        return _perform(handle, answer)
    except pycurl.error as error:
        raise ConnectionError(error.args[-1]) from None
    finally:
        handle.close()


def _perform(handle: pycurl.Curl, answer: AnswerBody) -> tuple[int, bytes]:
    """The answer's status and body; an answer that is too long is cut. Raises pycurl.error."""
    try:
        handle.perform()
    except pycurl.error:
        if not answer.truncated:
            raise
    return handle.getinfo(pycurl.RESPONSE_CODE), bytes(answer.content)


def _form(handle: pycurl.Curl, path: Path, mime_type: str) -> Any:
    form = pycurl.CurlMime(handle)
    form.add_field("messaging_product", "whatsapp")
    form.add_field("type", mime_type)
    form.add_file("file", str(path), content_type=mime_type)
    return form


def _limit(handle: pycurl.Curl, stall_timeout_ms: int) -> None:
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, min(CONNECT_TIMEOUT_MS, stall_timeout_ms))
    handle.setopt(pycurl.TIMEOUT, UPLOAD_TIMEOUT_SECONDS)
    handle.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    handle.setopt(pycurl.LOW_SPEED_TIME, max(stall_timeout_ms // 1000, 1))
