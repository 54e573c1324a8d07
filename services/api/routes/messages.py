"""Messages over HTTP: send a text or a template, and ask what became of those that were sent and what came in."""

from typing import Any

from flask import g, request

from services.api.auth import Auth, resource
from services.api.current import context
from services.api.messages import queries, request_fields, sends
from services.api.messages.request_fields import Fields
from services.api.messages.sends import Answer
from services.api.openapi import problems
from services.api.routes import edits
from services.api.schemas.base import (
    Accepted,
    ChatPath,
    MessagePage,
    MessagePath,
    OneMessage,
    PageQuery,
    SendHeaders,
    SendQuery,
)
from services.api.schemas.sends import DeleteRequest, EditRequest, TemplateMessage, TextMessage, json_body
from services.http_server.errors import ApiError
from services.message import MAX_TEXT, Payload

messages = resource("messages", "Send messages and follow them.", Auth.COMPANY)


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
        **problems("unknown_bot", "unknown_message"),
        **problems("idempotency_conflict", "unsupported_by_channel", "ambiguous_message", "not_sent"),
        **problems("too_large", "send_failed", "database_unavailable"),
    },
    openapi_extensions={
        "requestBody": json_body(
            TextMessage, plain={"message": "Hello"}, second={"message": "Hello", "phoneIndex": "1", "userName": "Aina"}
        )
    },
)
def send_text(path: ChatPath, query: SendQuery, header: SendHeaders) -> Answer:
    """The same as the hot path, for servers that have no event loop in front."""
    return _send("text", path, header)


@messages.post(
    "/api/v2/messages/template/<companyId>/<chatId>",
    summary="Send a template",
    description=(
        "What may be sent when the chat's 24 hours are over. `variables` fill the template's body; a template with "
        "variables elsewhere needs `components` in the provider's own form. Answers like a text."
    ),
    responses={
        200: Accepted,
        202: Accepted,
        **problems("invalid_request", "invalid_json", "invalid_chat_id", "text_too_long", "unknown_bot"),
        **problems("idempotency_conflict", "unsupported_by_channel"),
        **problems("too_large", "send_failed", "database_unavailable"),
    },
    openapi_extensions={
        "requestBody": json_body(
            TemplateMessage,
            order={"templateName": "order_ready", "language": "en_US", "variables": ["Aina", "17"], "phoneIndex": 0},
        )
    },
)
def send_template(path: ChatPath, query: SendQuery, header: SendHeaders) -> Answer:
    """The same as the hot path."""
    return _send("template", path, header)


def _send(kind: str, path: ChatPath, header: SendHeaders) -> Answer:
    body, wait = request.get_data(), request.args.get("wait")
    send = sends.parse(kind, path.company_id, path.chat_id, body, header.idempotency_key, wait)
    return sends.deliver(context(), g.principal, send).as_answer()


@messages.get(
    "/api/v2/messages/<companyId>/<chatId>",
    summary="Messages of a chat",
    description=(
        "Both directions, newest first: those that were accepted for the chat, each with its whole life, and those "
        "that came in; reactions stand with the message that they are about. `window` tells until when anything "
        "but templates may be sent."
    ),
    responses={
        200: MessagePage,
        **problems("invalid_request", "invalid_chat_id", "unknown_bot"),
    },
)
def list_messages(path: ChatPath, query: PageQuery) -> dict[str, Any]:
    """A page of the chat's messages."""
    chat = queries.Chat(path.company_id, request_fields.chat(path.chat_id, path.company_id), query.phone_index)
    if query.phone_index is not None and context().directory.bot(path.company_id, query.phone_index) is None:
        raise sends.unknown_bot(path.company_id, query.phone_index)
    try:
        start = queries.START if query.cursor is None else queries.Position.read(query.cursor)
    except ValueError:
        raise request_fields.invalid("cursor must be the nextCursor of a page as it is") from None
    with context().database.connection() as connection:
        found, following = queries.page(connection, chat, start, query.limit, context().settings.media_base)
        window = queries.window(connection, chat)
    cursor = None if following is None else following.written()
    return {"success": True, "messages": found, "nextCursor": cursor, "window": window}


@messages.get(
    "/api/v2/messages/<companyId>/<chatId>/<path:messageId>",
    summary="One message",
    description="Its whole life: every status with its time, attempts, last error and the provider's id.",
    responses={
        200: OneMessage,
        **problems("invalid_request", "invalid_chat_id", "unknown_message"),
    },
)
def get_message(path: MessagePath) -> dict[str, Any]:
    """The message with an id of ours or of the provider."""
    chat = queries.Chat(path.company_id, request_fields.chat(path.chat_id, path.company_id))
    with context().database.connection() as connection:
        found = queries.message(connection, chat, path.message_id, context().settings.media_base)
    if found is None:
        raise ApiError(404, "unknown_message", f"the chat {chat.chat_id} has no message with the id {path.message_id}")
    return {"success": True, **found}


_CHANGE: dict[str, Any] = {
    "responses": {
        200: Accepted,
        202: Accepted,
        **problems("invalid_request", "invalid_json", "invalid_chat_id", "text_too_long"),
        **problems("unknown_bot", "unknown_message"),
        **problems("unsupported_by_channel", "ambiguous_message", "not_sent", "not_outgoing", "idempotency_conflict"),
        **problems("too_large", "send_failed", "database_unavailable"),
    },
}


@messages.put(
    "/api/v2/messages/<companyId>/<chatId>/<path:messageId>",
    summary="Edit a message",
    description=(
        "WhatsApp Web bots can, for 15 minutes; of a message with a file the caption changes. The edit waits its turn "
        "in the chat and answers like a text; `messageId` in the answer is the edit's own. Meta cannot: the answer is "
        "409 and says what to do instead."
    ),
    openapi_extensions={"requestBody": json_body(EditRequest, edit={"newMessage": "Hello!", "phoneIndex": 0})},
    **_CHANGE,
)
def edit_message(path: MessagePath, query: SendQuery, header: SendHeaders) -> Answer:
    """Another text for a message of ours."""
    given = request_fields.json_object(request.get_data(), '{"newMessage": "Hello!"}')
    return _change("edit", path, header, given, {"message": request_fields.required(given, "newMessage", MAX_TEXT)})


@messages.delete(
    "/api/v2/messages/<companyId>/<chatId>/<path:messageId>",
    summary="Delete a message",
    description=(
        "WhatsApp Web bots can, for everyone (`deleteForEveryone`, the default) or on the number's own devices alone. "
        "The deletion waits its turn in the chat and answers like a text; where WhatsApp would delete it on the own "
        "devices only, it fails as `deleted_locally`. Meta cannot: the answer is 409 and says what to do instead."
    ),
    openapi_extensions={"requestBody": json_body(DeleteRequest, False, everyone={"deleteForEveryone": True})},
    **_CHANGE,
)
def delete_message(path: MessagePath, query: SendQuery, header: SendHeaders) -> Answer:
    """The end of a message."""
    given = request_fields.json_object(request.get_data() or b"{}", '{"deleteForEveryone": true}')
    said: Payload = {"deleteForEveryone": request_fields.flag(given, "deleteForEveryone", default=True)}
    return _change("delete", path, header, given, said)


def _change(kind: str, path: MessagePath, header: SendHeaders, given: Fields, said: Payload) -> Answer:
    key, wait = header.idempotency_key, request.args.get("wait")
    return edits.change(context(), g.principal, kind, path, given, said, key, wait).as_answer()
