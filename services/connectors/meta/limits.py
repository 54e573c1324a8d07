"""What Meta could never send, refused before it is accepted (Cloud API reference, "Messages")."""

import re
from collections.abc import Callable
from typing import Any

import orjson

from services.connectors.base import Unsupported
from services.message import MAX_TEXT

#: Characters in a caption, in a template's name and in all its variables together, at most.
MAX_CAPTION, MAX_NAME, MAX_VARIABLES = 1024, 512, 32_768
#: Bytes of a template's components as JSON, at most; the longest body has 32,768 characters.
MAX_COMPONENTS = 64 * 1024
#: Code points in one emoji, at most: the longest are families and couples with skin tones.
MAX_EMOJI = 16

_TEMPLATE_NAME = re.compile(r"[a-z0-9_]+", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Za-z]{2,4})?", re.ASCII)
_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
    "[\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*"
)
#: One emoji as a person sees it: a flag, a key cap, or pictures joined into one (Unicode TR 51, without its tables).
_EMOJI = re.compile(f"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_PICTURE}(?:\u200d{_PICTURE})*")

Payload = dict[str, Any]


def check(kind: str, chat_id: str, payload: Payload) -> None:
    """Refuse what Meta could never send; raises `Unsupported`, which says what to do instead."""
    if chat_id.endswith("@g.us"):
        raise Unsupported("Meta bots cannot write to groups; write to each member, or use a WhatsApp Web bot")
    if chat_id.endswith("@lid"):
        raise Unsupported("Meta bots cannot write to hidden numbers (…@lid); name the contact's phone number")
    if kind not in _CHECKS:
        raise Unsupported(f"Meta bots cannot send messages of type {kind}; they send {', '.join(_CHECKS)}")
    _CHECKS[kind](payload)


def _text(payload: Payload) -> None:
    if len(payload["message"]) > MAX_TEXT:
        raise Unsupported(f"a text has at most {MAX_TEXT} characters; split it into several messages")


def _captioned(payload: Payload) -> None:
    if len(payload.get("caption") or "") > MAX_CAPTION:
        raise Unsupported(f"a caption has at most {MAX_CAPTION} characters; send the rest as a text")


def _uncaptioned(payload: Payload) -> None:
    if payload.get("caption"):
        raise Unsupported("audio and stickers have no caption; send it as a text of its own")


def _template(payload: Payload) -> None:
    name, language = payload["templateName"], payload["language"]
    if not _TEMPLATE_NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise Unsupported("a template's name has lower-case letters, digits and underscores; copy it from its page")
    if not _LANGUAGE.fullmatch(language):
        raise Unsupported("a template's language is a code such as en or en_US; copy it from the template's page")
    if components := payload.get("components"):
        _components(components)
    else:
        _variables(payload.get("variables") or [])


def _variables(variables: list[str]) -> None:
    if not all(variables):
        raise Unsupported("a template's variables may not be empty; give each some text")
    if sum(map(len, variables)) > MAX_VARIABLES:
        raise Unsupported(f"a template's variables have at most {MAX_VARIABLES} characters together; shorten them")


def _components(components: list[Payload]) -> None:
    if not all(isinstance(each.get("type"), str) for each in components):
        raise Unsupported("every component of a template needs a type: header, body or button")
    if len(orjson.dumps(components)) > MAX_COMPONENTS:
        raise Unsupported(f"a template's components have at most {MAX_COMPONENTS // 1024} KB; shorten them")


def _reaction(payload: Payload) -> None:
    emoji = payload["reaction"]
    if emoji and (len(emoji) > MAX_EMOJI or not _EMOJI.fullmatch(emoji)):
        raise Unsupported("a reaction is one emoji, or an empty text to take it back; send anything else as a text")


def _anything(_: Payload) -> None:
    pass


_CHECKS: dict[str, Callable[[Payload], None]] = {
    "text": _text,
    "image": _captioned,
    "video": _captioned,
    "document": _captioned,
    "audio": _uncaptioned,
    "sticker": _uncaptioned,
    "template": _template,
    "reaction": _reaction,
    "read": _anything,
}
