"""The rules of the Graph API as documented (Cloud API reference, "Messages"): request in, answer out, nothing kept."""

import base64
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from services.connectors.meta.errors import TABLE
from services.message import MAX_TEXT

#: Characters in biz_opaque_callback_data, at most.
MAX_CALLBACK_DATA = 512
#: Prepended to a number without a plus, as Meta prepends the country code of the sending number.
COUNTRY_CODE = "60"
#: A token that begins so has expired.
EXPIRED = "expired"

_NUMBER = re.compile(r"\+?[0-9][0-9 ().-]*", re.ASCII)
_DIGITS = range(5, 16)
_TYPES_TO_COME = {
    "audio", "contacts", "document", "image", "interactive", "location", "reaction", "sticker", "template", "video",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """A text that a number is to send."""

    given: str  # the recipient as it was written
    recipient: str  # E.164 digits
    text: str
    callback_data: str | None


class GraphError(Exception):
    """An error of the API; its HTTP status is the documented one of its code."""

    def __init__(self, code: int, details: str, http: int | None = None) -> None:
        super().__init__(details)
        known = TABLE.get(code)
        self.code, self.details = code, details
        self.http = http or (known.http if known else 500)
        self.title = known.about if known else "an error that is not documented"

    def envelope(self) -> dict[str, Any]:
        """The answer's body."""
        return {
            "error": {
                "message": f"(#{self.code}) {self.title}",
                "type": "OAuthException",
                "code": self.code,
                "error_data": {"messaging_product": "whatsapp", "details": self.details},
                "fbtrace_id": secrets.token_urlsafe(8),
            }
        }


def check_token(authorization: str | None) -> None:
    """Let any bearer token pass but one that begins with `expired`. Raises `GraphError` 190."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise GraphError(190, "no access token: send it as Authorization: Bearer <token>")
    if token.strip().startswith(EXPIRED):
        raise GraphError(190, "the access token has expired")


def read_message(body: bytes) -> Message:
    """Read a request to send a text. Raises `GraphError` as the API answers what is wrong with it."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise GraphError(100, f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict) or fields.get("messaging_product") != "whatsapp":
        raise GraphError(100, "messaging_product is required and must be whatsapp")
    _optional(fields, "recipient_type", lambda value: value == "individual", "individual")
    given = _required(fields, "to")
    recipient = _recipient(given)
    _check_type(fields.get("type", "text"))
    text = _body(fields)
    callback_data = _optional(
        fields, "biz_opaque_callback_data",
        lambda value: isinstance(value, str) and len(value) <= MAX_CALLBACK_DATA, f"{MAX_CALLBACK_DATA} characters",
    )  # fmt: skip
    _optional(fields, "context", _is_context, "an object with a message_id")
    return Message(given, recipient, text, callback_data)


def _required(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None or value == "":
        raise GraphError(131008, f"{name} is required")
    if not isinstance(value, str):
        raise GraphError(131009, f"{name} must be a string")
    return value


def _optional(fields: dict[str, Any], name: str, is_good: Callable[[Any], bool], good: str) -> Any:
    value = fields.get(name)
    if value is not None and not is_good(value):
        raise GraphError(131009, f"{name} must be {good}")
    return value


def _recipient(given: str) -> str:
    digits = re.sub("[^0-9]", "", given)
    if not given.startswith("+"):
        digits = COUNTRY_CODE + digits
    if not _NUMBER.fullmatch(given) or len(digits) not in _DIGITS:
        raise GraphError(131009, f"to must be a phone number such as +60123456789, not {given[:40]}")
    return digits


def _check_type(kind: object) -> None:
    if isinstance(kind, str) and kind in _TYPES_TO_COME:
        raise GraphError(131051, f"the sandbox takes texts, not yet messages of type {kind}")
    if kind != "text":
        raise GraphError(100, "type must be one of the documented types of messages")


def _body(fields: dict[str, Any]) -> str:
    text = fields.get("text")
    if text is None:
        raise GraphError(131008, "text is required for messages of type text")
    if not isinstance(text, dict):
        raise GraphError(131009, "text must be an object")
    body = _required(text, "body")
    if len(body) > MAX_TEXT:
        raise GraphError(100, f"text.body must have at most {MAX_TEXT} characters, it has {len(body)}")
    _optional(text, "preview_url", lambda value: isinstance(value, bool), "true or false")
    return body


def _is_context(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("message_id"), str) and bool(value["message_id"])


def new_id() -> str:
    """A message id in Meta's form."""
    return f"wamid.{base64.b64encode(secrets.token_bytes(30)).decode()}"


def success(message: Message, wamid: str) -> dict[str, Any]:
    """The answer to a message that was taken."""
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": message.given, "wa_id": message.recipient}],
        "messages": [{"id": wamid}],
    }
