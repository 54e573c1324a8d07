"""Changes to messages that were sent: another text, or none, in their turn in the chat, where the channel can."""

from services.api.auth import Principal
from services.api.context import Context
from services.api.messages import lookup, request_fields, sends
from services.api.messages.lookup import Target
from services.api.messages.request_fields import Fields
from services.api.messages.sends import Reply, Send
from services.api.schemas.base import MessagePath
from services.http_server.errors import ApiError
from services.message import Payload


def change(
    context: Context, principal: Principal, kind: str, path: MessagePath, given: Fields, said: Payload,
    idempotency_key: str | None, wait: str | None,
) -> Reply:  # fmt: skip
    """Have the message edited or deleted; `said` is the payload but for the message. Raises `ApiError`."""
    chat_id, named = request_fields.chat(path.chat_id, path.company_id), request_fields.named_phone_index(given)
    with context.database.connection() as connection:
        target = lookup.find(connection, path.company_id, path.message_id, named)
    if target.chat_id != chat_id:
        raise ApiError(404, "unknown_message", f"the chat {chat_id} has no message with the id {path.message_id}")
    phone_index = (target.phone_index or 0) if named is None else named
    key, seconds = request_fields.idempotency_key(idempotency_key), request_fields.wait(wait)
    payload: Payload = said | {"targetMessageId": target.message_id}
    send = Send(path.company_id, chat_id, phone_index, kind, payload, key, seconds)
    sends.able_bot(context, send, context.directory.bot(path.company_id, phone_index))
    _require(target, send)
    payload["target_provider_id"] = target.sent_id()
    return sends.deliver(context, principal, send)


def _require(target: Target, send: Send) -> None:
    """Raise `ApiError` where the message is another number's, or not the company's to change."""
    if target.phone_index not in (None, send.phone_index):
        message = f"the message {target.named} belongs to phoneIndex {target.phone_index}, not to {send.phone_index}"
        raise ApiError(404, "unknown_message", message)
    if target.from_me:
        return
    if send.kind == "edit":
        raise ApiError(409, "not_outgoing", f"the message {target.named} came in: only your own can be edited")
    if send.payload["deleteForEveryone"] and not send.chat_id.endswith("@g.us"):  # a group's admins may
        message = f'the message {target.named} came in: delete your own copy with {{"deleteForEveryone": false}}'
        raise ApiError(409, "not_outgoing", message)
