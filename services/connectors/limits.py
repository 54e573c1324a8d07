"""Messages that a channel can never send. They are refused before acceptance, with a text that says what to do instead.

Sources: Cloud API reference, "Messages"; WA-JS API, `chat`.
"""

import re
from collections.abc import Callable
from typing import Any

import orjson

from services.connector import Unsupported
from services.media import kinds
from services.message import MAX_TEXT, MediaPayload, Payload, ReactionPayload, TemplatePayload, TextPayload, is_user_id

#: Maximum length of a caption, in characters.
MAX_CAPTION = 1024
#: Maximum length of one emoji, in code points. The longest are families and couples with skin tones.
MAX_EMOJI = 16
#: Maximum number of people that one text mentions (WhatsApp Web).
MAX_MENTIONS = 100
#: Maximum length of a template's name, in characters.
MAX_TEMPLATE_NAME = 512
#: Maximum length of all variables of a template together, in characters.
MAX_TEMPLATE_VARIABLES = 32_768
#: Maximum size of a template's components as JSON, in bytes; the longest body has 32,768 characters.
MAX_TEMPLATE_COMPONENTS = 64 * 1024

_OFFICE = "application/vnd.openxmlformats-officedocument"
#: The types of documents that Meta accepts (Cloud API reference, "Media").
META_DOCUMENTS = frozenset({
    "text/plain", "application/pdf", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
    f"{_OFFICE}.wordprocessingml.document", f"{_OFFICE}.spreadsheetml.sheet",
    f"{_OFFICE}.presentationml.presentation",
})  # fmt: skip

_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
    "[\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*"
)
#: One emoji as a person sees it: a flag, a key cap, or pictures joined into one (Unicode TR 51, without its tables).
_EMOJI = re.compile(f"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_PICTURE}(?:\u200d{_PICTURE})*")
_TEMPLATE_NAME = re.compile(r"[a-z0-9_]+", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Za-z]{2,4})?", re.ASCII)
_INSTEAD_AT_META = {
    "edit": "Meta cannot edit what was sent; send a correction as a text whose quotedMessageId is this message",
    "delete": "Meta cannot take back what was sent; send a correction that quotes it, or ask the other side to "
    "delete their copy",
}


def check_meta(kind: str, chat_id: str, payload: Payload) -> None:
    """Refuse what Meta can never send. Raises `Unsupported`."""
    if chat_id.endswith("@g.us"):
        raise Unsupported("Meta bots cannot write to groups; write to each member, or use a WhatsApp Web bot")
    if chat_id.endswith("@lid"):
        raise Unsupported("Meta bots cannot write to hidden numbers (…@lid); name the contact's phone number")
    if kind in _INSTEAD_AT_META:
        raise Unsupported(_INSTEAD_AT_META[kind])
    if kind not in _META:
        raise Unsupported(f"Meta bots cannot send messages of type {kind}; they send {', '.join(_META)}")
    _META[kind](payload)


def check_wwebjs(kind: str, chat_id: str, payload: Payload) -> None:
    """Refuse what WhatsApp Web can never send. Raises `Unsupported`."""
    if is_user_id(chat_id):
        raise Unsupported("WhatsApp Web bots cannot write to Meta's user ids; name the contact's phone number")
    if kind == "template":
        raise Unsupported("WhatsApp Web bots have no templates and no 24 hours; send the same as a text")
    if kind not in _WWEBJS:
        raise Unsupported(f"WhatsApp Web bots cannot send messages of type {kind}; they send {', '.join(_WWEBJS)}")
    _WWEBJS[kind](payload)


#: The check of each channel.
CHECKS: dict[str, Callable[[str, str, Payload], None]] = {"meta": check_meta, "wwebjs": check_wwebjs}


def check_meta_file(kind: str, mime_type: str) -> None:
    """Refuse a file that Meta accepts from nobody. Raises `Unsupported`."""
    bare = kinds.normalise(mime_type)
    if kind == "document" and bare not in META_DOCUMENTS:
        raise Unsupported(
            f"Meta accepts no document of type {bare}, but PDF, Word, Excel, PowerPoint and plain text; convert it, "
            "declare a text as text/plain, or use a WhatsApp Web bot"
        )


#: The checks of files, of the channels that do not accept every type that `kinds.KINDS` has for a kind of message.
FILE_CHECKS: dict[str, Callable[[str, str], None]] = {"meta": check_meta_file}


def _text(payload: TextPayload) -> None:
    if len(payload["message"]) > MAX_TEXT:
        raise Unsupported(f"a text has at most {MAX_TEXT} characters; split it into several messages")


def _text_without_mentions(payload: TextPayload) -> None:
    _text(payload)
    if payload.get("mentions"):
        raise Unsupported("Meta bots cannot mention people; leave mentions out, or use a WhatsApp Web bot")


def _text_with_mentions(payload: TextPayload) -> None:
    _text(payload)
    if len(payload.get("mentions") or ()) > MAX_MENTIONS:
        raise Unsupported(f"a text mentions at most {MAX_MENTIONS} people; split it into several messages")


def _captioned(payload: MediaPayload) -> None:
    if len(payload.get("caption") or "") > MAX_CAPTION:
        raise Unsupported(f"a caption has at most {MAX_CAPTION} characters; send the rest as a text")


def _uncaptioned(payload: MediaPayload) -> None:
    if payload.get("caption"):
        raise Unsupported("audio and stickers have no caption; send it as a text of its own")


def _reaction(payload: ReactionPayload) -> None:
    emoji = payload["reaction"]
    if emoji and (len(emoji) > MAX_EMOJI or not _EMOJI.fullmatch(emoji)):
        raise Unsupported("a reaction is one emoji, or an empty text to take it back; send anything else as a text")


def _template(payload: TemplatePayload) -> None:
    name, language = payload["templateName"], payload["language"]
    if not _TEMPLATE_NAME.fullmatch(name) or len(name) > MAX_TEMPLATE_NAME:
        raise Unsupported("a template's name has lower-case letters, digits and underscores; copy it from its page")
    if not _LANGUAGE.fullmatch(language):
        raise Unsupported("a template's language is a code such as en or en_US; copy it from the template's page")
    if components := payload.get("components"):
        _template_components(components)
    else:
        _template_variables(payload.get("variables") or [])


def _template_variables(variables: list[str]) -> None:
    if not all(variables):
        raise Unsupported("a template's variables may not be empty; give each some text")
    if sum(map(len, variables)) > MAX_TEMPLATE_VARIABLES:
        limit = MAX_TEMPLATE_VARIABLES
        raise Unsupported(f"a template's variables have at most {limit} characters together; shorten them")


def _template_components(components: list[dict[str, Any]]) -> None:
    if not all(isinstance(each.get("type"), str) for each in components):
        raise Unsupported("every component of a template needs a type: header, body or button")
    if len(orjson.dumps(components)) > MAX_TEMPLATE_COMPONENTS:
        raise Unsupported(f"a template's components have at most {MAX_TEMPLATE_COMPONENTS // 1024} KB; shorten them")


def _anything(_: Payload) -> None:
    pass


#: The checks of the kinds that both channels send.
_BOTH: dict[str, Callable[[Payload], None]] = {
    "image": _captioned,
    "video": _captioned,
    "document": _captioned,
    "audio": _uncaptioned,
    "sticker": _uncaptioned,
    "reaction": _reaction,
    "read": _anything,
}
_META: dict[str, Callable[[Payload], None]] = {"text": _text_without_mentions} | _BOTH | {"template": _template}
_WWEBJS: dict[str, Callable[[Payload], None]] = (
    {"text": _text_with_mentions} | _BOTH | {"edit": _text, "delete": _anything}
)
