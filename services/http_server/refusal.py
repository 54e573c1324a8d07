"""The refusals of the server itself, before or instead of an application's answer."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

from services.http_server.error_codes import RETRY_FILE_SECONDS, RETRY_SOON_SECONDS, ErrorCode, retry_after


class Refusal(Exception):
    """A request that is refused: a code for programs, a sentence for people, further headers."""

    def __init__(self, code: ErrorCode, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.headers: dict[str, str] = dict(headers or {})

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.code.status

    def body(self) -> dict[str, Any]:
        """The JSON body, in the form of all errors."""
        return {"success": False, "error": self.message, "code": self.code}

    def content(self) -> bytes:
        """The JSON body as bytes."""
        return orjson.dumps(self.body())

    def response(self, request_id: str) -> bytes:
        """A whole HTTP response that ends the connection."""
        content = self.content()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(content)),
            "connection": "close",
            "x-request-id": request_id,
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name.lower()}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


def malformed() -> Refusal:
    """The 400 for anything that is not an HTTP request."""
    return Refusal(ErrorCode.INVALID_REQUEST, "this is not a valid HTTP/1.1 request")


def repeated(name: str) -> Refusal:
    """The 400 for a repeated header that may be given once."""
    return Refusal(ErrorCode.INVALID_REQUEST, f"the header {name} is given more than once")


def url_too_long(limit: int) -> Refusal:
    """The 414."""
    return Refusal(ErrorCode.URL_TOO_LONG, f"the URL may have {limit} bytes at most")


def headers_too_large(lines: int, size: int) -> Refusal:
    """The 431."""
    return Refusal(ErrorCode.HEADERS_TOO_LARGE, f"a request may have {lines} headers of {size} bytes together at most")


def unknown_transfer_encoding() -> Refusal:
    """The 501."""
    return Refusal(ErrorCode.NOT_IMPLEMENTED, "the only supported Transfer-Encoding is chunked")


def request_timeout(part: str) -> Refusal:
    """The 408. `part`: head or body."""
    return Refusal(ErrorCode.REQUEST_TIMEOUT, f"the {part} of the request did not come in time")


def too_many_connections() -> Refusal:
    """The 503 for a connection too many."""
    return Refusal(
        ErrorCode.TOO_MANY_CONNECTIONS, "too many connections; try again shortly", retry_after(RETRY_SOON_SECONDS)
    )


def too_many_requests(message: str) -> Refusal:
    """The 429."""
    return Refusal(ErrorCode.TOO_MANY_REQUESTS, message, retry_after(RETRY_SOON_SECONDS))


def not_found() -> Refusal:
    """The 404 for an address that is never one of ours."""
    return Refusal(ErrorCode.NOT_FOUND, "there is no such address")


def too_large(limit: int) -> Refusal:
    """The 413."""
    return Refusal(ErrorCode.TOO_LARGE, f"the body may have {limit} bytes at most")


def disconnected() -> Refusal:
    """The 400 that nobody receives: the client closed the connection before its body was complete."""
    return Refusal(ErrorCode.INVALID_REQUEST, "the connection was closed before the body was complete")


def body_unavailable(reason: str) -> Refusal:
    """The 503 for a body that cannot be kept on the disk."""
    message = f"the body cannot be kept just now, nothing was stored: {reason}"
    return Refusal(ErrorCode.MEDIA_UNAVAILABLE, message, retry_after(RETRY_FILE_SECONDS))


def internal() -> Refusal:
    """The 500."""
    return Refusal(ErrorCode.INTERNAL, "something went wrong on our side; the log has the reason")
