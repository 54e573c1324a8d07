"""Messages over HTTP: send, edit and delete them, and read the messages of a chat."""

from typing import Any

from flask import g, request

from bisnesctl.queue import message_changes
from services.api.auth import Auth, context, resource
from services.api.messages import lookup, queries, request_fields, sends
from services.api.messages.lookup import Target
from services.api.messages.outcomes import Answer
from services.api.messages.request_fields import Fields
from services.api.messages.sends import Send
from services.api.openapi import problems
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
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError, unknown_bot
from services.message import MAX_TEXT, Payload, Status

messages = resource("messages", "Send messages and follow them.", Auth.COMPANY, recorded=False)


@messages.post(
    "/api/v2/messages/text/<companyId>/<chatId>",
    summary="Send a text",
    description=(
        "Answers 202 once the message is committed. Messages are sent in the order of their chat. With `?wait=` the "
        "answer is the outcome: 200 if the provider accepted the message, 502 if it failed, otherwise 202."
    ),
    responses={
        200: Accepted,
        202: Accepted,
        **problems("invalid_request", "invalid_json", "invalid_chat_id", "text_too_long"),
        **problems("unknown_bot", "unknown_message"),
        **problems("idempotency_conflict", "unsupported_by_channel", "ambiguous_message", "not_sent"),
        **problems("too_large", "backlog_full", "too_many_idempotency_keys", "send_failed", "database_unavailable"),
    },
    openapi_extensions={
        "requestBody": json_body(
            TextMessage, plain={"message": "Hello"}, second={"message": "Hello", "phoneIndex": "1", "userName": "Aina"}
        )
    },
)
def send_text(path: ChatPath, query: SendQuery, header: SendHeaders) -> Answer:
    """The same as the hot path, for servers without an event loop in front."""
    return _send("text", path, header)


@messages.post(
    "/api/v2/messages/template/<companyId>/<chatId>",
    summary="Send a template",
    description=(
        "Templates may also be sent after the chat's window of 24 hours has closed. `variables` fill the template's "
        "body; a template with variables elsewhere needs `components` in the provider's own form. Answers like a text."
    ),
    responses={
        200: Accepted,
        202: Accepted,
        **problems("invalid_request", "invalid_json", "invalid_chat_id", "text_too_long", "unknown_bot"),
        **problems("idempotency_conflict", "unsupported_by_channel"),
        **problems("too_large", "backlog_full", "too_many_idempotency_keys", "send_failed", "database_unavailable"),
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
        "Sent and received messages, newest first, each with its whole history. A reaction is a field of its message. "
        "`window` says until when messages other than templates may be sent."
    ),
    responses={200: MessagePage, **problems("invalid_request", "invalid_chat_id", "unknown_bot")},
)
def list_messages(path: ChatPath, query: PageQuery) -> dict[str, Any]:
    """A page of the chat's messages."""
    chat = queries.Chat(path.company_id, request_fields.chat(path.chat_id, path.company_id), query.phone_index)
    if query.phone_index is not None and context().accounts.bot(path.company_id, query.phone_index) is None:
        raise unknown_bot(path.company_id, query.phone_index)
    try:
        start = queries.START if query.cursor is None else queries.Position.read(query.cursor)
    except ValueError:
        raise request_fields.invalid("cursor must be the unchanged nextCursor of a page") from None
    with context().database.connection() as connection:
        found, next_page = queries.page(connection, chat, start, query.limit, context().settings.media_base)
        window = queries.window(connection, chat)
    cursor = None if next_page is None else next_page.cursor()
    return {"success": True, "messages": found, "nextCursor": cursor, "window": window}


@messages.get(
    "/api/v2/messages/<companyId>/<chatId>/<path:messageId>",
    summary="One message",
    description="Its whole history: every status with its time, attempts, last error and the provider's ID.",
    responses={200: OneMessage, **problems("invalid_request", "invalid_chat_id", "unknown_message")},
)
def get_message(path: MessagePath) -> dict[str, Any]:
    """The message with this ID, ours or the provider's."""
    chat = queries.Chat(path.company_id, request_fields.chat(path.chat_id, path.company_id))
    with context().database.connection() as connection:
        found = queries.message(connection, chat, path.message_id, context().settings.media_base)
    if found is None:
        raise lookup.unknown(path.message_id, chat.chat_id)
    return {"success": True, **found}


_CHANGE: dict[str, Any] = {
    "responses": {
        200: Accepted,
        202: Accepted,
        **problems("invalid_request", "invalid_json", "invalid_chat_id", "text_too_long"),
        **problems("unknown_bot", "unknown_message"),
        **problems("unsupported_by_channel", "ambiguous_message", "not_sent", "not_outgoing", "idempotency_conflict"),
        **problems("message_deleted", "too_large", "backlog_full", "too_many_idempotency_keys"),
        **problems("send_failed", "database_unavailable"),
    },
}


@messages.put(
    "/api/v2/messages/<companyId>/<chatId>/<path:messageId>",
    summary="Edit a message",
    description=(
        "Only WhatsApp Web bots can edit, for 15 minutes; an edit of a message with a file changes its caption. The "
        "edit is sent in its turn in the chat and answered like a text; `messageId` in the answer is the edit's own. "
        "Meta bots are answered with 409, which says what to do instead."
    ),
    openapi_extensions={"requestBody": json_body(EditRequest, edit={"newMessage": "Hello!", "phoneIndex": 0})},
    **_CHANGE,
)
def edit_message(path: MessagePath, query: SendQuery, header: SendHeaders) -> Answer:
    """Change the text of a sent message."""
    given = request_fields.body_fields("edit", request.get_data(), '{"newMessage": "Hello!"}')
    content: Payload = {"message": request_fields.required(given, "newMessage", MAX_TEXT)}
    return _change("edit", path, header, given, content)


@messages.delete(
    "/api/v2/messages/<companyId>/<chatId>/<path:messageId>",
    summary="Delete a message",
    description=(
        "A message that was not sent yet is cancelled, on every channel: the answer is 200, and it `failed` with "
        "`cancelled`. Of sent messages, only WhatsApp Web bots can delete, for everyone (`deleteForEveryone`, the "
        "default) or only on the bot's own devices. The deletion is sent in its turn in the chat and answered like a "
        "text. If WhatsApp deletes the message only on the own devices, it fails with `deleted_locally`. Meta bots are "
        "answered with 409, which says what to do instead."
    ),
    openapi_extensions={"requestBody": json_body(DeleteRequest, False, everyone={"deleteForEveryone": True})},
    **_CHANGE,
)
def delete_message(path: MessagePath, query: SendQuery, header: SendHeaders) -> Answer:
    """Delete a message."""
    given = request_fields.body_fields("delete", request.get_data() or b"{}", '{"deleteForEveryone": true}')
    content: Payload = {"deleteForEveryone": request_fields.flag(given, "deleteForEveryone", default=True)}
    return _change("delete", path, header, given, content)


def _change(kind: str, path: MessagePath, header: SendHeaders, given: Fields, content: Payload) -> Answer:
    """Have the message edited or deleted in its turn. `content`: the payload without the message."""
    chat_id, named = request_fields.chat(path.chat_id, path.company_id), request_fields.named_phone_index(given)
    with context().database.connection() as connection:
        target = lookup.find(connection, path.company_id, path.message_id, named)
    if target.chat_id != chat_id:
        raise lookup.unknown(path.message_id, chat_id)
    phone_index = (target.phone_index or 0) if named is None else named
    if kind == "delete" and target.is_waiting:
        target.require_phone_index(phone_index)
        with context().database.connection() as connection:
            if message_changes.cancel(connection, [target.message_id], path.company_id):
                answer = {"success": True, "messageId": target.message_id, "status": Status.FAILED, "chatId": chat_id}
                return answer, 200, {}
    key, wait = request_fields.idempotency_key(header.idempotency_key), request_fields.wait(request.args.get("wait"))
    payload: Payload = content | {"targetMessageId": target.message_id}
    send = Send(path.company_id, chat_id, phone_index, kind, payload, key, wait)
    sends.check(send, sends.find_bot(context(), send))
    _require_changeable(target, send)
    lookup.require_not_deleted(context().database, target, path.company_id, key)
    payload["target_provider_id"] = target.sent_id()
    return sends.deliver(context(), g.principal, send).as_answer()


def _require_changeable(target: Target, send: Send) -> None:
    """Raise `ApiError` if the message belongs to another bot, or the company may not change it."""
    target.require_phone_index(send.phone_index)
    if target.from_me:
        return
    if send.kind == "edit":
        raise ApiError(ErrorCode.NOT_OUTGOING, f"the message {target.named} came in: only your own can be edited")
    if send.payload["deleteForEveryone"] and not send.chat_id.endswith("@g.us"):  # admins of a group may
        message = f'the message {target.named} came in: delete your own copy with {{"deleteForEveryone": false}}'
        raise ApiError(ErrorCode.NOT_OUTGOING, message)
