"""Parses the object of each kind of message (Cloud API reference, "Messages")."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.message import MAX_TEXT
from services.sandbox.meta.request_fields import (
    GraphError,
    only,
    optional,
    optional_text,
    required,
    required_list,
    required_object,
)

MAX_CAPTION_CHARACTERS = 1024
#: Limit of an interactive message's header and footer.
MAX_HEADER_CHARACTERS = 60
#: Limit of an interactive message's body.
MAX_BODY_CHARACTERS = 1024
MAX_BUTTONS = 3
#: Limit of a list's rows, and of its sections.
MAX_ROWS = 10
MAX_CONTACTS = 257

_LINK = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
_PLAIN_ACTIONS = {
    "cta_url", "location_request_message", "flow", "product", "product_list", "catalog_message", "address_message",
    "call_permission_request", "voice_call", "carousel",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attachment:
    """The file of a message, named by its id or by its link."""

    kind: str  # image, video, …: the kind whose types and limits apply
    media_id: str | None
    link: str | None


@dataclass(frozen=True, slots=True)
class Content:
    """The parts of a message that matter to the simulator."""

    text: str  # the readable part
    target: str | None = None  # the message that a reaction is for
    attachment: Attachment | None = None


def _text(fields: dict[str, Any]) -> Content:
    text = required_object(fields, "text")
    body = required(text, "body", MAX_TEXT)
    optional(text, "preview_url", lambda value: isinstance(value, bool), "true or false")
    return Content(body)


def _media(kind: str, *more: str) -> Callable[[dict[str, Any]], Content]:
    def read(fields: dict[str, Any]) -> Content:
        return media_object(required_object(fields, kind), kind, *more)

    return read


def media_object(media: dict[str, Any], kind: str, *more: str) -> Content:
    """Parse `{"id": …}` or `{"link": …}` with the additional parameters that this kind has."""
    only(media, "id", "link", "provider", *more)
    media_id, link = (optional_text(media, name, 4096) or None for name in ("id", "link"))
    if (media_id is None) == (link is None):
        raise GraphError(131008 if link is None else 131009, f"{kind} must have either an id or a link")
    if link is not None and not _LINK.fullmatch(link):
        raise GraphError(131009, f"{kind}.link must be an http or https URL")
    optional(media, "voice", lambda value: isinstance(value, bool), "true or false")
    filename = optional_text(media, "filename", 240)
    text = optional_text(media, "caption", MAX_CAPTION_CHARACTERS) or filename
    return Content(text, None, Attachment(kind, media_id, link))


def _location(fields: dict[str, Any]) -> Content:
    location = required_object(fields, "location")
    for name, most in (("latitude", 90), ("longitude", 180)):
        if location.get(name) is None:
            raise GraphError(131008, f"location.{name} is required")
        if not -most <= _number(location[name]) <= most:
            raise GraphError(131009, f"location.{name} must be a number from -{most} to {most}")
    parts = (optional_text(location, name, 1000) for name in ("name", "address"))
    place = f"{location['latitude']}, {location['longitude']}"
    return Content(", ".join([*filter(None, parts), place]))


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else float("nan")
    except (ValueError, OverflowError):
        return float("nan")


def _contacts(fields: dict[str, Any]) -> Content:
    names = []
    for contact in required_list(fields, "contacts", MAX_CONTACTS):
        names.append(required(required_object(contact, "name"), "formatted_name"))
        for listed in ("phones", "emails", "addresses", "urls"):
            if contact.get(listed):
                required_list(contact, listed, 100)
    return Content(", ".join(names))


def _reaction(fields: dict[str, Any]) -> Content:
    reaction = required_object(fields, "reaction")
    if fields.get("context") is not None:
        raise GraphError(100, "a reaction has no context")
    target, emoji = required(reaction, "message_id"), reaction.get("emoji")
    if not isinstance(emoji, str):
        raise GraphError(131008 if emoji is None else 131009, "reaction.emoji must be a string")
    if len(emoji) > 16 or (emoji.isascii() and emoji):
        raise GraphError(131009, "reaction.emoji must be one emoji, or empty")
    return Content(emoji, target)


def _template(fields: dict[str, Any]) -> Content:
    return Content(required(required_object(fields, "template"), "name"))


def _interactive(fields: dict[str, Any]) -> Content:
    interactive = required_object(fields, "interactive")
    kind, action = required(interactive, "type"), interactive.get("action")
    if kind == "button":
        _buttons(required_object(interactive, "action"))
    elif kind == "list":
        _sections(required_object(interactive, "action"))
    elif kind not in _PLAIN_ACTIONS:
        raise GraphError(131009, f"interactive.type must be button, list, {', '.join(sorted(_PLAIN_ACTIONS))}")
    elif not isinstance(action, dict):
        raise GraphError(131008, "action is required")
    attachment = _header(interactive)
    if interactive.get("footer") is not None:
        required(required_object(interactive, "footer"), "text", MAX_HEADER_CHARACTERS)
    if kind == "product" and interactive.get("body") is None:
        return Content("")
    return Content(required(required_object(interactive, "body"), "text", MAX_BODY_CHARACTERS), None, attachment)


def _header(interactive: dict[str, Any]) -> Attachment | None:
    if interactive.get("header") is None:
        return None
    header = required_object(interactive, "header")
    kind = required(header, "type")
    if kind == "text":
        required(header, "text", MAX_HEADER_CHARACTERS)
    elif kind in ("image", "video", "document"):
        return media_object(required_object(header, kind), kind, "filename").attachment
    else:
        raise GraphError(131009, "header.type must be text, image, video or document")
    return None


def _buttons(action: dict[str, Any]) -> None:
    replies = []
    for button in required_list(action, "buttons", MAX_BUTTONS):
        if required(button, "type") != "reply":
            raise GraphError(131009, "button.type must be reply")
        reply = required_object(button, "reply")
        replies.append((required(reply, "id", 256), required(reply, "title", 20)))
    for part in zip(*replies, strict=True):
        if len(set(part)) < len(part):
            raise GraphError(131009, "buttons must differ in their ids and titles")


def _sections(action: dict[str, Any]) -> None:
    required(action, "button", 20)
    sections = required_list(action, "sections", MAX_ROWS)
    rows = [row for section in sections for row in required_list(section, "rows", MAX_ROWS)]
    if len(sections) > 1:
        for section in sections:
            required(section, "title", 24)
    if len(rows) > MAX_ROWS:
        raise GraphError(131009, f"a list must have at most {MAX_ROWS} rows in all its sections, it has {len(rows)}")
    ids = [required(row, "id", 200) for row in rows]
    if len(set(ids)) < len(ids):
        raise GraphError(131009, "rows must differ in their ids")
    for row in rows:
        required(row, "title", 24)
        optional_text(row, "description", 72)


#: The parser of each kind.
READERS: Mapping[str, Callable[[dict[str, Any]], Content]] = {
    "text": _text,
    "image": _media("image", "caption"),
    "video": _media("video", "caption"),
    "audio": _media("audio", "voice"),
    "document": _media("document", "caption", "filename"),
    "sticker": _media("sticker"),
    "location": _location,
    "contacts": _contacts,
    "interactive": _interactive,
    "template": _template,
    "reaction": _reaction,
}
