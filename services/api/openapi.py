"""The parts of the OpenAPI document that all operations share: security schemes, errors and their examples."""

from http import HTTPStatus
from typing import Any, Literal

from flask_openapi3 import Info
from pydantic import Field

from bisnesctl import __version__
from services.api.model import Model
from services.http_server.error_codes import RECEIVER_CODES, ErrorCode

INFO = Info(
    title="bisnesctl messages API",
    version=__version__,
    description=(
        "Sends WhatsApp messages through the bots of a company and reports their outcome.\n\n"
        "A message is *accepted* (202) once it is committed in the database. From then on it survives any "
        "crash, is sent in the order of its chat, and is never sent twice. Its status moves "
        "`queued → sending → sent → delivered → read`, or ends as `failed`. `waiting` means that an "
        "operator must act first, `unknown` that it may have been sent and is being reconciled with the provider. "
        "`hold` says why a message is not sent yet, for example because its provider is unavailable.\n\n"
        "`webhooks` describes the events that are posted to the webhooks of a company.\n\n"
        "Every answer has the header `X-Request-Id`: that of the request if it is sound, or else a new one.\n\n"
        'Every error has the form `{"success": false, "error": "a sentence", "code": "snake_case"}`.'
    ),
)

#: The two ways to present an API key; one is enough.
SECURITY: dict[str, Any] = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "A key made by `bisnesctl keys create`, for one company or for an operator.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The same key as `Authorization: Bearer <key>`.",
    },
}

_ABOUT = {
    400: "The request is invalid; `code` and `error` say what to change.",
    401: "No valid API key.",
    403: "The key belongs to another company.",
    404: "It does not exist.",
    408: "The request was not complete in time; the connection is closed.",
    409: "The request conflicts with the current state.",
    410: "It existed, and was deleted permanently.",
    413: "The body, or the file in it, is too large.",
    414: "The URL is too long.",
    415: "The file's type is not allowed for this kind of message, or is not the declared type.",
    416: "The file has no such range.",
    422: "The provider refused it; `step`, `providerCode` and `next` say at which step, why, and what to do.",
    429: "Too many requests at a time; `Retry-After` says when to try again.",
    431: "The request has too many headers, or headers that are too long.",
    500: "An error of the API itself.",
    501: "The request uses a part of HTTP that is not supported.",
    502: "The provider refused it permanently. The answer for a message has `messageId` and `providerCode`.",
    503: "The database or the provider is unavailable, or the server is full; nothing was stored. See `Retry-After`.",
}

#: The codes with which the server may refuse any request before a resource sees it.
COMMON = (
    *("request_timeout", "url_too_long", "too_many_requests", "headers_too_large", "not_implemented"),
    "too_many_connections",
)

#: The form in which flask-openapi3 expects them.
Responses = dict[str | int | HTTPStatus, Any]


class Problem(Model):
    """The form of every error."""

    success: Literal[False] = False
    error: str = Field(description="The problem and what to do, for people.")
    code: str = Field(
        description="The problem, for programs.",
        json_schema_extra={"enum": [code for code in ErrorCode if code not in RECEIVER_CODES]},
    )


def problems(*codes: str) -> Responses:
    """The OpenAPI responses for these codes of errors, by HTTP status. Raises KeyError for an unknown code."""
    found: Responses = {}
    for name in codes:
        code = ErrorCode[name.upper()]
        response = found.setdefault(str(code.status), _response(code.status))
        example = {"success": False, "error": code.example, "code": code.value}
        response["content"]["application/json"]["examples"][code.value] = {"value": example}
    return found


def _response(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {
        "description": _ABOUT[status],
        "content": {"application/json": {"schema": schema, "examples": {}}},
    }
    if status in (429, 503):
        about = "Seconds after which to try again."
        response["headers"] = {"Retry-After": {"description": about, "schema": {"type": "integer"}}}
    return response
