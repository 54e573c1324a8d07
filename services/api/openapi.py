"""What the OpenAPI document says about all operations alike: security schemes, errors and their examples."""

from http import HTTPStatus
from typing import Any, Literal

from flask_openapi3 import Info
from pydantic import BaseModel, Field

from bisnesctl import __version__

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

#: Every code that an error may have: HTTP status and an example of its sentence.
CODES: dict[str, tuple[int, str]] = {
    "invalid_json": (400, 'the body must be a JSON object, such as {"message": "Hello"}'),
    "invalid_request": (400, "limit: Input should be less than or equal to 200"),
    "invalid_chat_id": (400, "a chat id is a phone number in international form (60123456789, …), …"),
    "text_too_long": (400, "message has 5000 characters, at most 4096 are allowed"),
    "unsupported_media": (415, "a file of type image/gif cannot be sent as image; it may be image/jpeg, image/png"),
    "no_key": (401, "send your API key as X-Api-Key or as Authorization: Bearer <key>"),
    "invalid_key": (401, "this API key is unknown or was revoked (bisnesctl keys list)"),
    "foreign_company": (403, "this API key belongs to company 0128, not to 0999"),
    "unknown_bot": (404, "company 0128 has no bot with phoneIndex 7 (bisnesctl bots list shows them)"),
    "unknown_webhook": (404, "there is no webhook 01934f7e-… (GET /api/webhooks lists them)"),
    "unknown_event": (404, "the company has no event evt_01JZX4…, or it is not kept any more"),
    "unknown_message": (404, "the company has no message with the id wamid.HBgL…"),
    "not_found": (404, "there is no such address; /openapi/swagger shows all of them"),
    "no_media": (404, "the message has no file here"),
    "method_not_allowed": (
        405,
        "this address does not support that method; the Allow header names those it does",
    ),
    "request_timeout": (408, "the body of the request did not come in time"),
    "ambiguous_message": (409, "several messages go by the id 3EB0… (of the phoneIndexes 0, 1): name phoneIndex"),
    "not_sent": (409, "the message 01934f7e-… is queued: nothing can refer to it until it is sent"),
    "not_incoming": (409, "the message wamid.HBgL… is one of yours: only those that came in can be marked as read"),
    "not_outgoing": (409, "the message true_60123456789@c.us_3EB0… came in: only your own can be edited"),
    "idempotency_conflict": (409, "the Idempotency-Key order-1 was used for a different message"),
    "not_scanning": (409, "the session shows no QR code, it is WORKING: it is linked already; …"),
    "not_running": (409, "the session is STOPPED: start it first"),
    "blocked": (409, "bot 0 of company 0128 is blocked until …: 3 starts in a row failed; …"),
    "id_mismatch": (409, "this API key is for the number 106540352242922, not 100000000007777: leave … out, or …"),
    "number_taken": (409, "another bot has the number id 106540352242922: remove that one first"),
    "messages_waiting": (409, "messages wait for this number: let them leave first, or …"),
    "not_configured": (409, "the embedded signup needs META_APP_ID and META_APP_SECRET in .env"),
    "unsupported_by_channel": (409, "WhatsApp Web bots have no templates and no 24 hours; send the same as a text"),
    "too_many_webhooks": (409, "a company may have 50 webhooks"),
    "webhook_inactive": (409, 'the webhook is not active: PATCH it with {"active": true} first'),
    "media_gone": (410, "the file is not to be had any more: it could not be fetched from the provider: …"),
    "media_too_large": (413, "a file sent as image may have 5 MB at most"),
    "too_large": (413, "the body is too large; at most 1 MB is accepted"),
    "url_too_long": (414, "the URL may have 8192 bytes at most"),
    "invalid_range": (416, "the file has no such part; Content-Range says how many bytes it has"),
    "link_failed": (422, "not linked, at the step number: Meta says: Invalid OAuth access token (code 190); …"),
    "too_many_streams": (429, "company 0128 has 20 streams open here already; close one first"),
    "too_many_requests": (429, "too many requests at a time; wait for answers before you send more"),
    "headers_too_large": (431, "a request may have 100 headers of 32768 bytes together at most"),
    "internal": (500, "something went wrong on our side; the log of the API has the reason"),
    "not_implemented": (501, "the only supported Transfer-Encoding is chunked"),
    "send_failed": (502, "the provider refused the message for good: recipient is not a WhatsApp number"),
    "session_failed": (502, "the session could not do it: that number cannot be linked by a code"),
    "session_silent": (503, "the session does not answer; see its status, or restart it"),
    "media_pending": (503, "the file is still being fetched from the provider; ask again shortly"),
    "media_unavailable": (503, "the file cannot be kept just now, the message was not stored: …"),
    "too_many_connections": (503, "too many connections; try again shortly"),
    "database_unavailable": (503, "the database is unavailable; try again shortly"),
    "provider_unavailable": (503, "not linked, at the step number: Meta cannot be reached; try again in a few minutes"),
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

#: What any request may be refused with before a resource sees it.
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
    code: str = Field(description="What is wrong, for programs.", json_schema_extra={"enum": list(CODES)})


def problems(*codes: str) -> Responses:
    """The OpenAPI responses for these codes of errors, by HTTP status."""
    found: Responses = {}
    for code in codes:
        status, sentence = CODES[code]
        response = found.setdefault(str(status), _response(status))
        example = {"success": False, "error": sentence, "code": code}
        response["content"]["application/json"]["examples"][code] = {"value": example}
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
