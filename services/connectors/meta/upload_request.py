"""Calls of the provider beside the sends: a file's upload, streamed from disk, and a question without effect."""

from pathlib import Path
from typing import Any

import pycurl

from services.http_client import CONNECT_TIMEOUT_MS, MAX_ANSWER_BYTES, AnswerBody

#: Seconds for a whole upload, at most: 100 MB at 1.4 Mbit/s.
LONGEST = 600
#: Milliseconds for a question, at most.
QUESTION_TIMEOUT = 5000

#: What libcurl says before anything is sent: names, connections, proxies, TLS.
_NOT_CONNECTED = {
    pycurl.E_COULDNT_RESOLVE_PROXY, pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT, pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_SSL_CERTPROBLEM, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CIPHER,
}  # fmt: skip


class NotConnected(ConnectionError):
    """The provider could not be reached at all."""


def post_file(url: str, header: str, path: Path, mime_type: str, patience_ms: int) -> tuple[int, bytes]:
    """Upload the file as the API wants it (Cloud API reference, "Media"); returns the answer's status and body.

    `header` holds the credential. Raises ConnectionError when there is no complete answer, or when nothing moves for
    about `patience_ms` milliseconds; `NotConnected` if nothing was sent.
    """
    answer = AnswerBody(MAX_ANSWER_BYTES)
    handle = pycurl.Curl()
    try:
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.HTTPHEADER, [header, "Expect:"])
        handle.setopt(pycurl.MIMEPOST, _form(handle, path, mime_type))
        handle.setopt(pycurl.WRITEFUNCTION, answer.write)
        _limit(handle, patience_ms)
        return _perform(handle, answer)
    except pycurl.error as error:
        code, reason = error.args
        if code in _NOT_CONNECTED:
            raise NotConnected(reason) from None
        raise ConnectionError(f"the upload was cut off: {reason}") from None
    finally:
        handle.close()


def ask(url: str, header: str) -> tuple[int, bytes]:
    """GET; returns the answer's status and body. Raises ConnectionError when there is no complete answer."""
    answer = AnswerBody(MAX_ANSWER_BYTES)
    handle = pycurl.Curl()
    try:
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.HTTPHEADER, [header])
        handle.setopt(pycurl.WRITEFUNCTION, answer.write)
        _limit(handle, QUESTION_TIMEOUT)
        handle.setopt(pycurl.TIMEOUT_MS, QUESTION_TIMEOUT)
        return _perform(handle, answer)
    except pycurl.error as error:
        raise ConnectionError(error.args[-1]) from None
    finally:
        handle.close()


def _perform(handle: pycurl.Curl, answer: AnswerBody) -> tuple[int, bytes]:
    """The answer's status and body; one that is too long is cut. Raises pycurl.error."""
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


def _limit(handle: pycurl.Curl, patience_ms: int) -> None:
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, min(CONNECT_TIMEOUT_MS, patience_ms))
    handle.setopt(pycurl.TIMEOUT, LONGEST)
    handle.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    handle.setopt(pycurl.LOW_SPEED_TIME, max(patience_ms // 1000, 1))
