"""Sending a message, whatever the transport: checks a request, stores the message, answers.

`services.api.asgi` serves the hot path with it, and the Flask routes the rest; both say the same.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import orjson
from flask import request
from uuid_utils import uuid7

from services.api.auth import Principal
from services.api.context import Context
from services.api.messages import lookup, payloads, request_fields
from services.connectors.base import Unsupported
from services.database import error_reasons
from services.database.connection import DatabaseUnavailable
from services.http_server.errors import ApiError, database_unavailable
from services.message import Bot, Payload, Status, StoredFile
from services.outbox.accept import Accepted, Entry, IdempotencyConflict
from services.outbox.message_status import MessageStatus

#: What the addresses of sends begin with.
PREFIX = "/api/v2/messages/"
#: Where Flask's routes leave an answer whose caller waits for an outcome, in the WSGI environment.
PENDING = "bisnes.pending"
#: Body, HTTP status and headers.
Answer = tuple[dict[str, Any], int, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Send:
    """A request to send a message, checked as far as that goes without the database."""

    company_id: str
    chat_id: str
    phone_index: int
    kind: str
    payload: Payload
    idempotency_key: str | None
    wait: float  # seconds to wait for the outcome; 0: answer as soon as it is durable


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: HTTP status, JSON body and further headers."""

    status: int
    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()
    #: Seconds for which the caller waits for the outcome of the message.
    wait: float = 0.0

    def as_answer(self) -> Answer:
        """The same as Flask takes it; the event loop waits for the outcome, see `services.api.messages.outcomes`."""
        if self.wait:
            request.environ[PENDING] = self
        return self.body, self.status, dict(self.headers)


def parse(kind: str, company_id: str, chat_id: str, body: bytes, idempotency_key: str | None, wait: str | None) -> Send:
    """Check a request to send what JSON alone can say (`contents.PLAIN`). Raises `ApiError` that names the fault."""
    chat = request_fields.chat(chat_id, company_id)
    given = request_fields.json_object(body)
    payload = payloads.PLAIN[kind](given)
    return Send(
        company_id, chat, request_fields.phone_index(given), kind, payload,
        request_fields.idempotency_key(idempotency_key), request_fields.wait(wait),
    )  # fmt: skip


def entry(context: Context, principal: Principal, send: Send, bot: Bot | None) -> Entry:
    """The row to store. Raises `ApiError` where the bot is unknown or its channel cannot do it."""
    principal.require_company(send.company_id)
    able = able_bot(context, send, bot)
    return Entry(
        str(uuid7()), able.process_name, able.id, send.company_id, send.phone_index, send.chat_id, send.kind,
        send.payload, send.idempotency_key, _digest(send) if send.idempotency_key else None,
    )  # fmt: skip


def able_bot(context: Context, send: Send, bot: Bot | None) -> Bot:
    """The bot itself. Raises `ApiError` where there is none or its channel cannot send that."""
    if bot is None:
        raise unknown_bot(send.company_id, send.phone_index)
    try:
        context.connectors[bot.process_name].check(send.kind, send.chat_id, send.payload)
    except Unsupported as error:
        raise ApiError(409, "unsupported_by_channel", str(error)) from None
    return bot


def unknown_bot(company_id: str, phone_index: int) -> ApiError:
    """The 404 for a number that the company does not have."""
    message = f"company {company_id} has no bot with phoneIndex {phone_index} (bisnesctl bots list shows them)"
    return ApiError(404, "unknown_bot", message)


def _digest(send: Send) -> str:
    """What the request says, whenever it is said: a file of ours is known by its content, not by where it is kept."""
    payload = send.payload
    if media := payload.get("media"):
        payload = payload | {"media": cast(StoredFile, {name: value for name, value in media.items() if name != "key"})}
    said = [send.chat_id, send.phone_index, send.kind, payload]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def accepted(answer: Accepted, send: Send) -> Reply:
    """The 202 for a durable message."""
    headers = (("Idempotency-Replayed", "true"),) if answer.repeated else ()
    body = {"success": True, "messageId": answer.message_id, "status": Status.QUEUED, "chatId": send.chat_id}
    return Reply(202, body, headers, send.wait)


def refusal(error: Exception) -> ApiError:
    """The answer for a message that could not be stored."""
    if isinstance(error, IdempotencyConflict):
        return ApiError(409, "idempotency_conflict", f"the Idempotency-Key {error} was used for a different message")
    reason = error_reasons.why(error)
    if reason:
        message = f"PostgreSQL cannot store: {reason}. The message was not stored; send it again later"
        return database_unavailable(message)
    if isinstance(error, DatabaseUnavailable):
        return database_unavailable("the database is away, the message was not stored; send it again shortly")
    return ApiError(500, "internal", "the message could not be stored; the log of the API has the reason")


def resolve_quote(context: Context, send: Send) -> None:
    """Turn the quoted id, ours or the provider's, into the provider's. Raises `ApiError` where it is unknown."""
    with context.database.connection() as connection:
        quoted = lookup.find(connection, send.company_id, send.payload["quotedMessageId"], send.phone_index)
    send.payload["quoted_provider_id"] = quoted.sent_id()


def deliver(context: Context, principal: Principal, send: Send) -> Reply:
    """Store the message and answer. Raises `ApiError`."""
    try:
        if "quotedMessageId" in send.payload:
            resolve_quote(context, send)
        bot = context.directory.bot(send.company_id, send.phone_index)
        return accepted(context.intake.accept(entry(context, principal, send, bot)).result(), send)
    except (DatabaseUnavailable, IdempotencyConflict) as error:
        raise refusal(error) from error


def settled(reply: Reply, found: MessageStatus) -> Reply:
    """The answer that tells what has become of the message of an answer so far."""
    body: dict[str, Any] = reply.body | {"status": found.status}
    if found.provider_id:
        body["providerId"] = found.provider_id
    if found.hold:
        body["hold"] = found.hold
    if found.status == Status.FAILED:
        failed = {"success": False, "error": found.error, "code": "send_failed", "providerCode": found.code}
        return Reply(502, body | failed)
    is_done = found.status.settled and found.status not in (Status.UNKNOWN, Status.WAITING)
    return Reply(200 if is_done else 202, body)
