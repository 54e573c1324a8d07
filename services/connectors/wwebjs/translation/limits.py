"""What WhatsApp Web could never send, refused before it is accepted."""

from collections.abc import Callable

from services.connectors import limits
from services.connectors.base import Unsupported
from services.message import Payload, TextPayload, is_user_id

#: People that one text may mention.
MAX_MENTIONS = 100


def check(kind: str, chat_id: str, payload: Payload) -> None:
    """Refuse what WhatsApp Web could never send; raises `Unsupported`, which says what to do instead."""
    if is_user_id(chat_id):
        raise Unsupported("WhatsApp Web bots cannot write to Meta's user ids; name the contact's phone number")
    if kind == "template":
        raise Unsupported("WhatsApp Web bots have no templates and no 24 hours; send the same as a text")
    if kind not in _CHECKS:
        raise Unsupported(f"WhatsApp Web bots cannot send messages of type {kind}; they send {', '.join(_CHECKS)}")
    _CHECKS[kind](payload)


def _text(payload: TextPayload) -> None:
    limits.text(payload)
    if len(payload.get("mentions") or ()) > MAX_MENTIONS:
        raise Unsupported(f"a text mentions at most {MAX_MENTIONS} people; split it into several messages")


_CHECKS: dict[str, Callable[[Payload], None]] = limits.CHECKS | {
    "text": _text,
    "edit": limits.text,
    "delete": limits.anything,
}
