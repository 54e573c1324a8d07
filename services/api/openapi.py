"""What the OpenAPI document says about all operations alike: security schemes, errors and their examples."""

from http import HTTPStatus
from typing import Any, Literal

from flask_openapi3 import Info
from pydantic import BaseModel, Field

from bisnesctl import __version__
from services.http_server.error_codes import RECEIVER_CODES, ErrorCode

INFO = Info(
    title="bisnesctl messages API",
    version=__version__,
    description=(
        "Sends WhatsApp messages through the bots of a company and tells what became of them.\n\n"
        "A message is *accepted* (202) once it is committed in the database; from then on it survives any "
        "crash, leaves in the order of its chat, and is never sent twice. Its status moves "
        "`queued → sending → sent → delivered → read`, or ends as `failed`; `waiting` means that an "
        "operator must act first, `unknown` that it may have been sent and is being reconciled with the provider. "
        "`hold` says why a message does not leave, also while its provider cannot be reached.\n\n"
        'Every error has the form `{"success": false, "error": "a sentence", "code": "snake_case"}`.'
    ),
)

#: The two ways to present an API key; either is enough.
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
    400: "The request is wrong; `code` and `error` say what to change.",
    401: "No valid API key.",
    403: "The key is another company's.",
    404: "There is no such thing.",
    408: "The request did not come in time; the connection is closed.",
    409: "The request contradicts what is there.",
    410: "It was there once and will not come back.",
    413: "The body, or the file in it, is too large.",
    414: "The URL is too long.",
    415: "The file is not of a type that can be sent so, or not of the type that it is said to be.",
    416: "The file has no such part.",
    422: "The provider refused it; `step`, `providerCode` and `next` say where, why and what to do.",
    429: "Too much at once; `Retry-After` says when to try again.",
    431: "The request has too many headers, or too long ones.",
    500: "A fault of the API.",
    501: "The request uses a part of HTTP that is not supported.",
    502: "The provider refused it, and it is not tried again. Of a message, `messageId` and `providerCode` are given.",
    503: "The database or the provider is away, or too many clients are here; nothing was stored. See `Retry-After`.",
}

#: The codes with which the server may refuse any request before a resource sees it.
COMMON = (
    *("request_timeout", "url_too_long", "too_many_requests", "headers_too_large", "not_implemented"),
    "too_many_connections",
)

#: As flask-openapi3 wants them.
Responses = dict[str | int | HTTPStatus, Any]


class Problem(BaseModel):
    """The form of every error."""

    success: Literal[False] = False
    error: str = Field(description="What is wrong and what to do, for people.")
    code: str = Field(
        description="What is wrong, for programs.",
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
