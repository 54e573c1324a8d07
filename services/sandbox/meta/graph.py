"""The Graph API's rules for requests to send (Cloud API reference, "Messages"). Pure functions: nothing is stored."""

import base64
import re
import secrets
from dataclasses import dataclass
from typing import Any

from services.message import is_user_id
from services.sandbox.meta.customers import chat_of
from services.sandbox.meta.message_kinds import READERS, Attachment
from services.sandbox.meta.request_fields import (  # fmt: skip
    GraphError,
    check_product,
    optional,
    read_object,
    required,
    required_object,
)

#: Limit of biz_opaque_callback_data.
MAX_CALLBACK_DATA_CHARACTERS = 512
MAX_GROUP_ID_CHARACTERS = 128
#: Tokens with this prefix have expired.
EXPIRED_PREFIX = "expired"
#: The kind of a request that marks a message as read.
READ_MARK = "read"

_NUMBER = re.compile(r"\+?[0-9][0-9 ().-]*", re.ASCII)
_DIGIT_COUNTS = range(5, 16)


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send, or, with the kind `READ_MARK`, to mark as read."""

    given: str  # the recipient as the request names it
    recipient: str  # E.164 digits, the user id of a customer with a hidden number, or the id of a group
    text: str  # the readable part
    callback_data: str | None
    kind: str = "text"
    target: str | None = None  # the message that this one answers, reacts to or marks as read
    attachment: Attachment | None = None
    to_group: bool = False


#: Stands for a request that cannot be parsed.
UNREADABLE = Message("", "", "", None, "")


def check_token(authorization: str | None) -> str:
    """The bearer token. Raises `GraphError` 190 if there is none, or if it begins with `EXPIRED_PREFIX`."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise GraphError(190, "no access token: send it as Authorization: Bearer <token>")
    if token.startswith(EXPIRED_PREFIX):
        raise GraphError(190, "the access token has expired", subcode=463)
    return token


def read_message(body: bytes) -> Message:
    """Parse a request to send or to mark as read. Raises the `GraphError` that the API answers with."""
    fields = read_object(body)
    check_product(fields)
    if fields.get("status") is not None:
        return _read_mark(fields)
    optional(fields, "recipient_type", lambda value: value in ("individual", "group"), "individual or group")
    to_group = fields.get("recipient_type") == "group"
    given, recipient = (required(fields, "to", MAX_GROUP_ID_CHARACTERS),) * 2 if to_group else _recipient(fields)
    kind = fields.get("type", "text")
    reader = READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise GraphError(100, "type must be one of the documented types of messages")
    content = reader(fields)
    callback_data = optional(
        fields, "biz_opaque_callback_data",
        lambda value: isinstance(value, str) and len(value) <= MAX_CALLBACK_DATA_CHARACTERS,
        f"{MAX_CALLBACK_DATA_CHARACTERS} characters",
    )  # fmt: skip
    context = optional(fields, "context", _is_context, "an object with a message_id")
    target = content.target or (context["message_id"] if context else None)
    return Message(given, recipient, content.text, callback_data, kind, target, content.attachment, to_group)


def _read_mark(fields: dict[str, Any]) -> Message:
    if fields["status"] != "read":
        raise GraphError(131009, "status must be read")
    if fields.get("typing_indicator") is not None:
        indicator = required(required_object(fields, "typing_indicator"), "type")
        if indicator != "text":
            raise GraphError(131009, "typing_indicator.type must be text")
    typing = "typing" if fields.get("typing_indicator") else ""
    return Message("", "", typing, None, READ_MARK, required(fields, "message_id"))


def _recipient(fields: dict[str, Any]) -> tuple[str, str]:
    """The recipient as given and as normalised: `to`, a phone number, or else `recipient`, a user id."""
    if not fields.get("to") and fields.get("recipient"):
        user_id = required(fields, "recipient")
        if not is_user_id(user_id):
            raise GraphError(131009, f"recipient must be a user id such as US.1349, not {user_id[:40]}")
        return user_id, chat_of(user_id)
    given = required(fields, "to")
    digits = re.sub("[^0-9]", "", given)
    if not _NUMBER.fullmatch(given) or len(digits) not in _DIGIT_COUNTS:
        raise GraphError(131009, f"to must be a phone number such as +60123456789, not {given[:40]}")
    return given, digits


def _is_context(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("message_id"), str) and bool(value["message_id"])


def new_id() -> str:
    """A random message id in Meta's form."""
    return f"wamid.{base64.b64encode(secrets.token_bytes(30)).decode()}"


def success(message: Message, wamid: str | None) -> dict[str, Any]:
    """The answer to an accepted message, or, without an id, to a read mark."""
    if wamid is None:
        return {"success": True}
    contact = {"user_id": message.given} if is_user_id(message.given) else {"wa_id": message.recipient}
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": message.given, **contact}],
        "messages": [{"id": wamid} | ({"message_status": "accepted"} if message.kind == "template" else {})],
    }
