"""Reactions and read marks over HTTP."""

from flask import g, request

from services.api.auth import Auth, context, resource
from services.api.messages import lookup, request_fields, sends
from services.api.messages.lookup import Target
from services.api.messages.outcomes import Answer
from services.api.messages.request_fields import Fields
from services.api.messages.sends import Send
from services.api.openapi import problems
from services.api.schemas.base import Accepted, SendHeaders, SendQuery, TargetPath
from services.api.schemas.sends import ReactionRequest, ReadRequest, json_body
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError
from services.message import Payload

reactions = resource("reactions", "React to messages and mark them as read.", Auth.COMPANY, recorded=False)

_RESPONSES = {
    200: Accepted,
    202: Accepted,
    **problems("invalid_request", "invalid_json"),
    **problems("unknown_bot", "unknown_message"),
    **problems("ambiguous_message", "not_sent", "not_incoming", "idempotency_conflict", "unsupported_by_channel"),
    **problems("message_deleted", "too_large", "backlog_full", "too_many_idempotency_keys"),
    **problems("send_failed", "database_unavailable"),
}


@reactions.post(
    "/api/messages/react/<companyId>/<path:messageId>",
    summary="React to a message",
    description=(
        "The message is named by any of its IDs, ours or the provider's. The reaction is sent in its turn in the chat "
        "and answered like a text; `messageId` in the answer is the reaction's own."
    ),
    responses=_RESPONSES,
    openapi_extensions={
        "requestBody": json_body(ReactionRequest, thumb={"reaction": "👍", "phoneIndex": 0}, removed={"reaction": ""})
    },
)
def react(path: TargetPath, query: SendQuery, header: SendHeaders) -> Answer:
    """React to a message, or remove the reaction."""
    given = request_fields.body_fields("reaction", request.get_data(), '{"reaction": "👍"}')
    emoji, target = request_fields.reaction(given), _target(path, given)
    lookup.require_not_deleted(context().database, target, path.company_id, header.idempotency_key)
    return _send("reaction", path, header, given, target, {"reaction": emoji})


@reactions.post(
    "/api/messages/read/<companyId>/<path:messageId>",
    summary="Mark a message as read",
    description="With `typing`, the other side sees that an answer is being typed, until it arrives or for 25 seconds.",
    responses=_RESPONSES,
    openapi_extensions={"requestBody": json_body(ReadRequest, False, read={}, typing={"typing": True})},
)
def read(path: TargetPath, query: SendQuery, header: SendHeaders) -> Answer:
    """Mark a received message as read."""
    given = request_fields.body_fields("read", request.get_data() or b"{}", '{"typing": true}')
    typing = request_fields.flag(given, "typing")
    target = _target(path, given)
    if target.from_me:
        message = f"the message {path.message_id} is one of yours: only those that came in can be marked as read"
        raise ApiError(ErrorCode.NOT_INCOMING, message)
    return _send("read", path, header, given, target, {"typing": typing})


def _target(path: TargetPath, given: Fields) -> Target:
    """The message. If the request names a bot, the message must belong to it."""
    phone_index = request_fields.named_phone_index(given)
    with context().database.connection() as connection:
        target = lookup.find(connection, path.company_id, path.message_id, phone_index)
    if phone_index is not None:
        target.require_phone_index(phone_index)
    return target


def _send(kind: str, path: TargetPath, header: SendHeaders, given: Fields, target: Target, content: Payload) -> Answer:
    payload: Payload = content | {"targetMessageId": path.message_id, "target_provider_id": target.sent_id()}
    phone_index = request_fields.phone_index(given) if target.phone_index is None else target.phone_index
    key, wait = request_fields.idempotency_key(header.idempotency_key), request_fields.wait(request.args.get("wait"))
    send = Send(path.company_id, target.chat_id, phone_index, kind, payload, key, wait)
    return sends.deliver(context(), g.principal, send).as_answer()
