"""Errors of the HTTP API, and how Flask turns each of them into the one form that callers know.

Every error is answered as `{"success": false, "error": "<sentence>", "code": "<snake_case>"}`.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from flask import Flask, Response, jsonify
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from bisnesctl.host import disk
from services.database import error_reasons
from services.database.connection import DatabaseUnavailable

#: Seconds after which a caller may try again while the database is unavailable.
RETRY_AFTER_SECONDS = 2

log = structlog.get_logger()


class ApiError(Exception):
    """A request that is refused: HTTP status, code for programs, sentence for people, further headers."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers: dict[str, str] = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"success": False, "error": self.message, "code": self.code}


def database_unavailable(message: str = "the database is unavailable; try again shortly") -> ApiError:
    """The 503 with its Retry-After."""
    return ApiError(503, "database_unavailable", message, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def invalid_request(error: ValidationError) -> ApiError:
    """What pydantic found first, as one sentence that names the field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return ApiError(400, "invalid_request", f"{field}: {first['msg']}" if field else first["msg"])


def answer_errors(app: Flask) -> None:
    """Make the application answer every error in the one form."""
    app.register_error_handler(ApiError, _answer)
    app.register_error_handler(DatabaseUnavailable, _database_unavailable)
    app.register_error_handler(OSError, _disk)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _internal)


def _answer(error: ApiError) -> Response:
    response = jsonify(error.body())
    response.status_code = error.status
    response.headers.extend(error.headers)
    return response


def _database_unavailable(error: DatabaseUnavailable) -> Response:
    log.warning("request.database_unavailable", reason=str(error))
    reason = error_reasons.why(error)
    return _answer(
        database_unavailable(f"PostgreSQL refused: {reason}; try again later") if reason else database_unavailable()
    )


def _disk(error: OSError) -> Response:
    """An error of the disk on which a large body is spooled."""
    if not disk.is_of_disk(error):
        return _internal(error)
    log.error("request.disk_unavailable", reason=str(error))
    message = f"the request could not be kept on disk ({(error.strerror or str(error)).lower()}); send it again later"
    return _answer(ApiError(503, "media_unavailable", message, {"Retry-After": str(RETRY_AFTER_SECONDS)}))


#: Werkzeug's errors that have a code and a sentence of our own; the others keep their names.
_HTTP = {
    404: ("not_found", "there is no such address; /openapi/swagger shows all of them"),
    405: (
        "method_not_allowed",
        "this address does not support that method; the Allow header names those it does",
    ),
    413: ("too_large", "the body is too large; at most 1 MB is accepted"),
}


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:
        return _internal(error)
    code, message = _HTTP.get(status, ("invalid_request", error.description or error.name))
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return _answer(ApiError(status, code, message, headers))


def _internal(error: Exception) -> Response:
    log.error("request.failed", exc_info=error)
    return _answer(ApiError(500, "internal", "something went wrong on our side; the log of the API has the reason"))
