"""Errors of the HTTP API, and how Flask turns each of them into the documented form.

Every error is answered as `{"success": false, "error": "<sentence>", "code": "<snake_case>"}`.
"""

from typing import TYPE_CHECKING

import structlog
from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from bisnesctl.host import disk
from services.database import error_reasons
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.http_server.error_codes import RETRY_SOON_SECONDS, ErrorCode, retry_after
from services.http_server.refusal import Refusal

if TYPE_CHECKING:  # it takes 4 MiB, and the receiver of webhooks does without
    from pydantic import ValidationError

#: Characters of a foreign host name that an error repeats.
MAX_SHOWN_HOST = 100

log = structlog.get_logger()


class ApiError(Refusal):
    """A request that a route refuses."""


def database_unavailable(message: str = ErrorCode.DATABASE_UNAVAILABLE.example) -> ApiError:
    """The 503 with its Retry-After."""
    return ApiError(ErrorCode.DATABASE_UNAVAILABLE, message, retry_after(RETRY_SOON_SECONDS))


def unknown_bot(company_id: str, phone_index: int) -> ApiError:
    """The 404 for a bot that the company does not have."""
    message = f"company {company_id} has no bot with phoneIndex {phone_index} (bisnesctl bots list shows them)"
    return ApiError(ErrorCode.UNKNOWN_BOT, message)


def unknown_host(host: str) -> ApiError:
    """The 403 for the state of the server under a foreign name."""
    shown = "".join(sign for sign in host[:MAX_SHOWN_HOST] if sign.isprintable())
    message = f"{shown} is not a name of this server: set PUBLIC_URL to it, use the IP address, or send a key"
    return ApiError(ErrorCode.UNKNOWN_HOST, message)


def database_refusal(error: DatabaseUnavailable | DatabaseError) -> ApiError:
    """The 503 with the reason that PostgreSQL gave, if any."""
    reason = error_reasons.why(error)
    return database_unavailable(f"PostgreSQL refused: {reason}; try again later") if reason else database_unavailable()


def invalid_request(error: "ValidationError") -> ApiError:
    """The first error that pydantic found, as one sentence that names the field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return ApiError(ErrorCode.INVALID_REQUEST, f"{field}: {first['msg']}" if field else first["msg"])


def answer_errors(app: Flask) -> None:
    """Make the application answer every error in the one form."""
    app.register_error_handler(Refusal, _answer)
    app.register_error_handler(DatabaseUnavailable, _database_unavailable)
    app.register_error_handler(DatabaseError, _database_error)
    app.register_error_handler(OSError, _disk)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _internal)


def _answer(error: Refusal) -> Response:
    response = jsonify(error.body())
    response.status_code = error.status
    response.headers.extend(error.headers)
    return response


def _database_unavailable(error: DatabaseUnavailable) -> Response:
    log.warning("database.unavailable", reason=str(error))
    return _answer(database_refusal(error))


def _database_error(error: DatabaseError) -> Response:
    """A refusal of PostgreSQL that no retry met. Any other error of a statement is a fault of ours."""
    if error_reasons.why(error) is None:
        return _internal(error)
    log.error("database.refused", reason=str(error).strip())
    return _answer(database_refusal(error))


def _disk(error: OSError) -> Response:
    """Large bodies are stored on disk while they are read."""
    if not disk.is_of_disk(error):
        return _internal(error)
    log.error("disk.write_failed", reason=str(error))
    message = f"the request could not be stored on disk ({(error.strerror or str(error)).lower()}); send it again later"
    return _answer(ApiError(ErrorCode.MEDIA_UNAVAILABLE, message, retry_after(RETRY_SOON_SECONDS)))


#: Werkzeug's errors that have a code of their own.
_CODES = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED, 413: ErrorCode.TOO_LARGE}


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:
        return _internal(error)
    code = _CODES.get(status)
    if code is None:
        response = _answer(ApiError(ErrorCode.INVALID_REQUEST, error.description or error.name))
        response.status_code = status
        return response
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return _answer(ApiError(code, code.example, headers))


def _internal(error: Exception) -> Response:
    log.error("request.failed", exc_info=error)
    return _answer(ApiError(ErrorCode.INTERNAL, ErrorCode.INTERNAL.example))
