"""A file's way to the provider: one multipart POST, streamed from disk."""

from pathlib import Path
from typing import Any

import pycurl

from services.window import CONNECT_TIMEOUT, MAX_ANSWER, AnswerBody

#: Seconds for a whole upload, at most: 100 MB at 1.4 Mbit/s.
LONGEST = 600


def post_file(url: str, header: str, path: Path, mime_type: str, patience_ms: int) -> tuple[int, bytes]:
    """Upload the file as the API wants it (Cloud API reference, "Media"); returns the answer's status and body.

    `header` holds the credential. Raises ConnectionError when there is no complete answer, or when nothing moves for
    about `patience_ms` milliseconds.
    """
    answer = AnswerBody(MAX_ANSWER)
    handle = pycurl.Curl()
    try:
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.HTTPHEADER, [header, "Expect:"])
        handle.setopt(pycurl.MIMEPOST, _form(handle, path, mime_type))
        handle.setopt(pycurl.WRITEFUNCTION, answer.write)
        _limit(handle, patience_ms)
        try:
            handle.perform()
        except pycurl.error as error:
            if not answer.truncated:
                raise ConnectionError(f"the upload was cut off: {error.args[-1]}") from None
        return handle.getinfo(pycurl.RESPONSE_CODE), bytes(answer.content)
    finally:
        handle.close()


def _form(handle: pycurl.Curl, path: Path, mime_type: str) -> Any:
    form = pycurl.CurlMime(handle)
    form.add_field("messaging_product", "whatsapp")
    form.add_field("type", mime_type)
    form.add_file("file", str(path), content_type=mime_type)
    return form


def _limit(handle: pycurl.Curl, patience_ms: int) -> None:
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, min(CONNECT_TIMEOUT, patience_ms))
    handle.setopt(pycurl.TIMEOUT, LONGEST)
    handle.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    handle.setopt(pycurl.LOW_SPEED_TIME, max(patience_ms // 1000, 1))
