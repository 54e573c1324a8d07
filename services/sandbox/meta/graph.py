"""The rules of the Graph API for requests to send (Cloud API reference, "Messages"): request in, answer out, nothing
kept."""

import base64
import re
import secrets
from dataclasses import dataclass
from typing import Any

from services.message import is_user_id
from services.sandbox.meta.customers import chat_of
from services.sandbox.meta.message_kinds import READERS
from services.sandbox.request_fields import (  # fmt: skip
    GraphError,
    check_product,
    optional,
    read_object,
    required,
    required_object,
)

#: Characters in biz_opaque_callback_data, at most.
MAX_CALLBACK_DATA = 512
#: Prepended to a number without a plus, as Meta prepends the country code of the sending number.
COUNTRY_CODE = "60"
#: A token that begins so has expired.
EXPIRED = "expired"
#: The kind under which a read mark goes.
READ = "read"

_NUMBER = re.compile(r"\+?[0-9][0-9 ().-]*", re.ASCII)
_DIGITS = range(5, 16)


@dataclass(frozen=True, slots=True)
class Message:
    """What a number is to send, or, of the kind `read`, to mark."""

    given: str  # the recipient as it was written
    recipient: str  # E.164 digits, or the user id of one who hides them
    text: str  # what a person reads of it
    callback_data: str | None
    kind: str = "text"
    target: str | None = None  # the message that it answers, reacts to or marks
    media_id: str | None = None
    link: str | None = None


#: What could not be read.
UNREADABLE = Message("", "", "", None, "")


def check_token(authorization: str | None) -> str:
    """The bearer token, unless it begins with `expired`. Raises `GraphError` 190."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise GraphError(190, "no access token: send it as Authorization: Bearer <token>")
    if token.startswith(EXPIRED):
        raise GraphError(190, "the access token has expired", subcode=463)
    return token


def read_message(body: bytes) -> Message:
    """Read a request to send or to mark as read. Raises `GraphError` as the API answers what is wrong with it."""
    fields = read_object(body)
    check_product(fields)
    if fields.get("status") is not None:
        return _read_mark(fields)
    optional(fields, "recipient_type", lambda value: value == "individual", "individual")
    given, recipient = _recipient(fields)
    kind = fields.get("type", "text")
    reader = READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise GraphError(100, "type must be one of the documented types of messages")
    content = reader(fields)
    callback_data = optional(
        fields, "biz_opaque_callback_data",
        lambda value: isinstance(value, str) and len(value) <= MAX_CALLBACK_DATA, f"{MAX_CALLBACK_DATA} characters",
    )  # fmt: skip
    context = optional(fields, "context", _is_context, "an object with a message_id")
    target = content.target or (context["message_id"] if context else None)
    return Message(given, recipient, content.text, callback_data, kind, target, content.media_id, content.link)


def _read_mark(fields: dict[str, Any]) -> Message:
    if fields["status"] != "read":
        raise GraphError(131009, "status must be read")
    if fields.get("typing_indicator") is not None:
        indicator = required(required_object(fields, "typing_indicator"), "type")
        if indicator != "text":
            raise GraphError(131009, "typing_indicator.type must be text")
    typing = "typing" if fields.get("typing_indicator") else ""
    return Message("", "", typing, None, READ, required(fields, "message_id"))


def _recipient(fields: dict[str, Any]) -> tuple[str, str]:
    """As it was written and as it is known: `to`, a phone number, or else `recipient`, a user id."""
    if not fields.get("to") and fields.get("recipient"):
        user_id = required(fields, "recipient")
        if not is_user_id(user_id):
            raise GraphError(131009, f"recipient must be a user id such as US.1349, not {user_id[:40]}")
        return user_id, chat_of(user_id)
    given = required(fields, "to")
    digits = re.sub("[^0-9]", "", given)
    if not given.startswith("+"):
        digits = COUNTRY_CODE + digits
    if not _NUMBER.fullmatch(given) or len(digits) not in _DIGITS:
        raise GraphError(131009, f"to must be a phone number such as +60123456789, not {given[:40]}")
    return given, digits


def _is_context(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("message_id"), str) and bool(value["message_id"])


def new_id() -> str:
    """A message id in Meta's form."""
    return f"wamid.{base64.b64encode(secrets.token_bytes(30)).decode()}"


def success(message: Message, wamid: str | None) -> dict[str, Any]:
    """The answer to a message that was taken, or to a read mark, which gets no id."""
    if wamid is None:
        return {"success": True}
    known_by = ("user_id", message.given) if is_user_id(message.given) else ("wa_id", message.recipient)
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": message.given, known_by[0]: known_by[1]}],
        "messages": [{"id": wamid} | ({"message_status": "accepted"} if message.kind == "template" else {})],
    }
