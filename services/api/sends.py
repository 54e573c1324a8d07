"""Sending a message, whatever the transport: checks a request, stores the message, answers.

`services.api.asgi` serves the hot path with it, and the Flask route the rest; both say the same.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from uuid_utils import uuid7

from services import store
from services.api.auth import Principal
from services.api.context import Context
from services.api.errors import ApiError
from services.connectors.base import Unsupported
from services.intake import Accepted, IdempotencyConflict
from services.message import MAX_TEXT, Bot, InvalidChatId, Status, normalise_chat_id
from services.store import DatabaseUnavailable, Entry

#: Seconds that `?wait=` may ask for.
MAX_WAIT = 30.0
#: Characters in an Idempotency-Key.
MAX_IDEMPOTENCY_KEY = 255

_PHONE_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Send:
    """A request to send a text, checked as far as that goes without the database."""

    company_id: str
    chat_id: str
    phone_index: int
    payload: dict[str, Any]
    idempotency_key: str | None
    wait: float  # seconds to wait for the outcome; 0: answer as soon as it is durable


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: HTTP status, JSON body and further headers."""

    status: int
    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


def parse(company_id: str, chat_id: str, body: bytes, idempotency_key: str | None, wait: str | None) -> Send:
    """Check a request to send a text. Raises `ApiError` that names what is wrong."""
    try:
        chat = normalise_chat_id(chat_id, company_id)
    except InvalidChatId as error:
        raise ApiError(400, "invalid_chat_id", str(error)) from None
    fields = _json_object(body)
    payload = {"message": _text(fields, "message", MAX_TEXT, required=True)}
    for name in ("quotedMessageId", "userName"):
        if (value := _text(fields, name, 255)) is not None:
            payload[name] = value
    return Send(company_id, chat, _phone_index(fields), payload, _idempotency_key(idempotency_key), _wait(wait))


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "invalid_json", f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "invalid_json", 'the body must be a JSON object, such as {"message": "Hello"}')
    return fields


def _text(fields: dict[str, Any], name: str, limit: int, required: bool = False) -> str | None:
    value = fields.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str):
        raise ApiError(
            400,
            "invalid_request",
            f"{name} is required and must be a string" if required else f"{name} must be a string",
        )
    if required and not value:
        raise ApiError(400, "invalid_request", f"{name} must not be empty")
    if len(value) > limit:
        raise ApiError(400, "text_too_long", f"{name} has {len(value)} characters, at most {limit} are allowed")
    if "\0" in value:
        raise ApiError(400, "invalid_request", f"{name} must not contain a NUL character")
    return value


def _phone_index(fields: dict[str, Any]) -> int:
    value = fields.get("phoneIndex", 0)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    if isinstance(value, str) and _PHONE_INDEX.fullmatch(value):
        return int(value)
    raise ApiError(400, "invalid_request", 'phoneIndex must be a whole number from 0, such as 0 or "0"')


def _idempotency_key(value: str | None) -> str | None:
    if value is not None and not (0 < len(value) <= MAX_IDEMPOTENCY_KEY and value.isprintable()):
        raise ApiError(
            400, "invalid_request", f"Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY} printable characters"
        )
    return value


def _wait(value: str | None) -> float:
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT:
        raise ApiError(400, "invalid_request", f"wait must be a number of seconds from 0 to {MAX_WAIT:g}")
    return seconds


def entry(context: Context, principal: Principal, send: Send, bot: Bot | None) -> Entry:
    """The row to store. Raises `ApiError` where the bot is unknown or its channel cannot do it."""
    principal.require_company(send.company_id)
    if bot is None:
        raise ApiError(
            404, "unknown_bot",
            f"company {send.company_id} has no bot with phoneIndex {send.phone_index} (bisnesctl bots list shows them)",
        )  # fmt: skip
    connector = context.connectors.get(bot.process_name)
    if connector is None:
        raise ApiError(409, "unsupported_by_channel", f"messages cannot be sent through {bot.connection_type} bots yet")
    try:
        connector.check("text", send.chat_id, send.payload)
    except Unsupported as error:
        raise ApiError(409, "unsupported_by_channel", str(error)) from None
    return Entry(
        str(uuid7()), bot.process_name, bot.id, send.company_id, send.phone_index, send.chat_id, "text", send.payload,
        send.idempotency_key, _digest(send) if send.idempotency_key else None,
    )  # fmt: skip


def _digest(send: Send) -> str:
    said = [send.chat_id, send.phone_index, "text", send.payload]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def accepted(answer: Accepted, send: Send) -> Reply:
    """The 202 for a durable message."""
    headers = (("Idempotency-Replayed", "true"),) if answer.repeated else ()
    body = {"success": True, "messageId": answer.message_id, "status": Status.QUEUED, "chatId": send.chat_id}
    return Reply(202, body, headers)


def refusal(error: Exception) -> ApiError:
    """The answer for a message that could not be stored."""
    if isinstance(error, IdempotencyConflict):
        return ApiError(409, "idempotency_conflict", f"the Idempotency-Key {error} was used for a different message")
    if isinstance(error, DatabaseUnavailable):
        return ApiError(
            503, "database_unavailable", "the database is away, the message was not stored; send it again shortly",
            {"Retry-After": "2"},
        )  # fmt: skip
    return ApiError(500, "internal", "the message could not be stored; the log of the API has the reason")


def resolve_quote(context: Context, send: Send) -> None:
    """Turn the quoted id, ours or the provider's, into the provider's. Raises `ApiError` where it is unknown."""
    quoted = send.payload["quotedMessageId"]
    with context.database.connection() as connection:
        provider_id = store.provider_id_of(connection, send.company_id, quoted)
    if provider_id is None:
        raise ApiError(404, "unknown_message", f"the quoted message {quoted} is not known, or was not sent yet")
    send.payload["quoted_provider_id"] = provider_id


def looks(seconds: float) -> Iterator[float]:
    """The pauses, in seconds, between looks for an outcome: short ones first, until the time is up."""
    end, pause = time.monotonic() + seconds, 0.01
    while (left := end - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(pause * 1.5, 0.25)


def outcome(context: Context, message_id: str, chat_id: str) -> Reply:
    """The answer that tells what has become of a message so far."""
    with context.database.connection() as connection:
        status, provider_id, code, error = store.outcome_of(connection, message_id)
    body: dict[str, Any] = {"success": True, "messageId": message_id, "status": status, "chatId": chat_id}
    if provider_id:
        body["providerId"] = provider_id
    if status == Status.FAILED:
        return Reply(502, body | {"success": False, "error": error, "code": "send_failed", "providerCode": code})
    return Reply(200 if status.settled and status not in (Status.UNKNOWN, Status.WAITING) else 202, body)
