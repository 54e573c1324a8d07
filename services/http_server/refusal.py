"""The refusals of the server itself, before or instead of an application's answer, in the one form of all errors."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson


class Refusal(Exception):
    """A request that is refused: HTTP status, code for programs, sentence for people, further headers."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers: dict[str, str] = dict(headers or {})

    def content(self) -> bytes:
        """The JSON body."""
        return orjson.dumps({"success": False, "error": self.message, "code": self.code})

    def response(self) -> bytes:
        """A whole HTTP response that ends the connection."""
        content = self.content()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(content)),
            "connection": "close",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name.lower()}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


def malformed() -> Refusal:
    """The 400 for anything that is not an HTTP request."""
    return Refusal(400, "invalid_request", "this is not a valid HTTP/1.1 request")


def repeated(name: str) -> Refusal:
    """The 400 for a repeated header that may be given once."""
    return Refusal(400, "invalid_request", f"the header {name} is given more than once")


def url_too_long(limit: int) -> Refusal:
    """The 414."""
    return Refusal(414, "url_too_long", f"the URL may have {limit} bytes at most")


def headers_too_large(lines: int, size: int) -> Refusal:
    """The 431."""
    return Refusal(431, "headers_too_large", f"a request may have {lines} headers of {size} bytes together at most")


def unknown_transfer_encoding() -> Refusal:
    """The 501."""
    return Refusal(501, "not_implemented", "the only supported Transfer-Encoding is chunked")


def request_timeout(part: str) -> Refusal:
    """The 408. `part`: head or body."""
    return Refusal(408, "request_timeout", f"the {part} of the request did not come in time")


def too_many_connections() -> Refusal:
    """The 503 for a connection too many."""
    return Refusal(503, "too_many_connections", "too many connections; try again shortly", {"Retry-After": "2"})


def too_many_requests(message: str) -> Refusal:
    """The 429."""
    return Refusal(429, "too_many_requests", message, {"Retry-After": "2"})


def not_found() -> Refusal:
    """The 404 for an address that is never one of ours."""
    return Refusal(404, "not_found", "there is no such address")


def too_large(limit: int) -> Refusal:
    """The 413."""
    return Refusal(413, "too_large", f"the body may have {limit} bytes at most")


def disconnected() -> Refusal:
    """The 400 that nobody receives: the client closed the connection before its body was complete."""
    return Refusal(400, "invalid_request", "the connection was closed before the body was complete")


def body_unavailable(reason: str) -> Refusal:
    """The 503 for a body that cannot be kept on the disk."""
    message = f"the body cannot be kept just now, nothing was stored: {reason}"
    return Refusal(503, "media_unavailable", message, {"Retry-After": "5"})


def internal() -> Refusal:
    """The 500."""
    return Refusal(500, "internal", "something went wrong on our side; the log has the reason")
