"""Messages over HTTP: send one, and ask what became of those that were sent."""

import time
from typing import Any

from flask import g, request

from services.api import inquiries, sends
from services.api.auth import Auth, resource
from services.api.context import Context
from services.api.current import context
from services.api.documents import problems
from services.api.errors import ApiError
from services.api.schemas import (
    Accepted,
    ChatPath,
    MessagePage,
    MessagePath,
    OneMessage,
    PageQuery,
    SendHeaders,
    SendQuery,
    TextMessage,
)
from services.intake import IdempotencyConflict
from services.message import InvalidChatId, normalise_chat_id
from services.store import DatabaseUnavailable

messages = resource("messages", "Send messages and follow them.", Auth.COMPANY)

Answer = tuple[dict[str, Any], int, dict[str, str]]


@messages.post(
    "/api/v2/messages/text/<companyId>/<chatId>",
    summary="Send a text",
    description=(
        "Answers 202 once the message is committed; it then leaves in the order of its chat. With `?wait=` "
        "the answer is the outcome: 200 when the provider took it, 502 when it refused it, 202 while neither "
        "is known."
    ),
    responses={
        200: Accepted,
        202: Accepted,
        **problems("invalid_request", "invalid_json", "invalid_chat_id", "text_too_long"),
        **problems("unknown_bot", "unknown_message", "idempotency_conflict", "unsupported_by_channel"),
        **problems("too_large", "send_failed", "database_unavailable"),
    },
    openapi_extensions={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": TextMessage.model_json_schema(),
                    "examples": {
                        "plain": {"value": {"message": "Hello"}},
                        "second number": {"value": {"message": "Hello", "phoneIndex": "1", "userName": "Aina"}},
                    },
                }
            },
        }
    },
)
def send_text(path: ChatPath, query: SendQuery, header: SendHeaders) -> Answer:
    """The same as the hot path, for servers that have no event loop in front."""
    send = sends.parse(
        path.company_id, path.chat_id, request.get_data(), header.idempotency_key, request.args.get("wait")
    )
    try:
        reply = _deliver(context(), send)
    except (DatabaseUnavailable, IdempotencyConflict) as error:
        raise sends.refusal(error) from error
    return reply.body, reply.status, dict(reply.headers)


def _deliver(context: Context, send: sends.Send) -> sends.Reply:
    if "quotedMessageId" in send.payload:
        sends.resolve_quote(context, send)
    bot = context.directory.bot(send.company_id, send.phone_index)
    entry = sends.entry(context, g.principal, send, bot)
    answer = context.intake.accept(entry).result()
    reply = sends.accepted(answer, send)
    for pause in sends.looks(send.wait):
        time.sleep(pause)
        reply = sends.outcome(context, answer.message_id, send.chat_id)
        if reply.body["status"].settled:
            break
    return reply


@messages.get(
    "/api/v2/messages/<companyId>/<chatId>",
    summary="Messages of a chat",
    description="Those that were accepted for the chat, newest first, each with its whole life.",
    responses={
        200: MessagePage,
        **problems("invalid_request", "invalid_chat_id", "unknown_bot"),
    },
)
def list_messages(path: ChatPath, query: PageQuery) -> dict[str, Any]:
    """A page of the chat's messages."""
    chat_id = _chat(path)
    if query.phone_index is not None and context().directory.bot(path.company_id, query.phone_index) is None:
        raise ApiError(404, "unknown_bot", f"company {path.company_id} has no bot with phoneIndex {query.phone_index}")
    before = inquiries.NEWEST if query.cursor is None else query.cursor
    with context().database.connection() as connection:
        found, following = inquiries.page(connection, path.company_id, chat_id, query.phone_index, before, query.limit)
    return {"success": True, "messages": found, "nextCursor": None if following is None else str(following)}


@messages.get(
    "/api/v2/messages/<companyId>/<chatId>/<messageId>",
    summary="One message",
    description="Its whole life: every status with its time, attempts, last error and the provider's id.",
    responses={
        200: OneMessage,
        **problems("invalid_request", "invalid_chat_id", "unknown_message"),
    },
)
def get_message(path: MessagePath) -> dict[str, Any]:
    """The message with an id of ours or of the provider."""
    chat_id = _chat(path)
    with context().database.connection() as connection:
        found = inquiries.message(connection, path.company_id, chat_id, path.message_id)
    if found is None:
        raise ApiError(404, "unknown_message", f"the chat {chat_id} has no message with the id {path.message_id}")
    return {"success": True, **found}


def _chat(path: ChatPath) -> str:
    try:
        return normalise_chat_id(path.chat_id, path.company_id)
    except InvalidChatId as error:
        raise ApiError(400, "invalid_chat_id", str(error)) from None
