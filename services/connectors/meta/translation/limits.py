"""What Meta could never send, refused before it is accepted (Cloud API reference, "Messages")."""

import re
from typing import Any

import orjson

from services.connectors import limits
from services.connectors.base import Unsupported
from services.message import Payload, TemplatePayload, TextPayload

#: Characters in a template's name and in all its variables together, at most.
MAX_NAME, MAX_VARIABLES = 512, 32_768
#: Bytes of a template's components as JSON, at most; the longest body has 32,768 characters.
MAX_COMPONENTS = 64 * 1024

_TEMPLATE_NAME = re.compile(r"[a-z0-9_]+", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Za-z]{2,4})?", re.ASCII)
_INSTEAD = {
    "edit": "Meta cannot edit what was sent; send a correction as a text whose quotedMessageId is this message",
    "delete": "Meta cannot take back what was sent; send a correction that quotes it, or ask the other side to "
    "delete their copy",
}


def check(kind: str, chat_id: str, payload: Payload) -> None:
    """Refuse what Meta could never send; raises `Unsupported`, which says what to do instead."""
    if chat_id.endswith("@g.us"):
        raise Unsupported("Meta bots cannot write to groups; write to each member, or use a WhatsApp Web bot")
    if chat_id.endswith("@lid"):
        raise Unsupported("Meta bots cannot write to hidden numbers (…@lid); name the contact's phone number")
    if kind in _INSTEAD:
        raise Unsupported(_INSTEAD[kind])
    if kind not in _CHECKS:
        raise Unsupported(f"Meta bots cannot send messages of type {kind}; they send {', '.join(_CHECKS)}")
    _CHECKS[kind](payload)


def _text(payload: TextPayload) -> None:
    limits.text(payload)
    if payload.get("mentions"):
        raise Unsupported("Meta bots cannot mention people; leave mentions out, or use a WhatsApp Web bot")


def _template(payload: TemplatePayload) -> None:
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


def _components(components: list[dict[str, Any]]) -> None:
    if not all(isinstance(each.get("type"), str) for each in components):
        raise Unsupported("every component of a template needs a type: header, body or button")
    if len(orjson.dumps(components)) > MAX_COMPONENTS:
        raise Unsupported(f"a template's components have at most {MAX_COMPONENTS // 1024} KB; shorten them")


_CHECKS = limits.CHECKS | {"text": _text, "template": _template}
