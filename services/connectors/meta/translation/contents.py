"""The contents of Meta's messages: the words that a person sees, the file, and details such as the advertisement."""

from collections.abc import Callable
from typing import Any

from services.connectors.meta.translation.errors import read_error
from services.connectors.untrusted_json import field, name_of, objects, text
from services.media import names
from services.message import Media

Object = dict[str, Any]

_FILES = ("image", "video", "audio", "document", "sticker")
#: Kinds whose object has an id that is not a file's.
_WITHOUT_FILE = (
    "text",
    "button",
    "interactive",
    "order",
    "system",
    "location",
    "contacts",
    "reaction",
    "edit",
    "revoke",
)
#: Old names of voice messages.
_VOICE = ("voice", "ptt")

#: Fields of a message that the columns of the history and the event have.
_PLAIN = {"from", "from_user_id", "to", "to_user_id", "id", "timestamp", "type", "context"}
_PLAIN_CONTEXT = {"from", "id"}
_PLAIN_TEXT = {"body"}
_PLAIN_FILE = {"id", "mime_type", "sha256", "filename", "caption", "voice", "animated", "url"}


def words(kind: str, message: Object) -> str | None:
    """The words of a message that a person sees: its text, caption, title, or a line that describes it."""
    return _WORDS.get(kind, _other)(message)


def media(kind: str, message: Object) -> Media | None:
    """The file of a message, also of a kind that we do not know."""
    file = _file(kind, message)
    if file is None:
        return None
    return Media(
        name_of(file, "id") or "",
        name_of(file, "mime_type") or "application/octet-stream",
        name_of(file, "sha256"),
        names.safe(text(file, "filename")),
        field(file, "voice") is True or kind in _VOICE,
        field(file, "animated") is True,
        text(file, "url"),
    )


def details(message: Object) -> Object:
    """The parts of a message that its event has under names of their own."""
    context = field(message, "context")
    found = {
        "referral": field(message, "referral"),
        "referredProduct": field(context, "referred_product"),
        "forwarded": field(context, "forwarded") is True or field(context, "frequently_forwarded") is True,
        "frequentlyForwarded": field(context, "frequently_forwarded") is True,
        "errors": objects(message, "errors"),
    }
    return {name: value for name, value in found.items() if value and (value is True or _is_of_event(name, value))}


def _is_of_event(name: str, value: Any) -> bool:
    return isinstance(value, list if name == "errors" else dict)


def is_plain(kind: str, message: Object) -> bool:
    """Whether a text or a file has nothing beside what the columns of the history say."""
    content, context = field(message, kind), field(message, "context") or {}
    known = _PLAIN_TEXT if kind == "text" else _PLAIN_FILE
    return (
        (kind == "text" or kind in _FILES)
        and message.keys() <= _PLAIN | {kind}
        and isinstance(content, dict)
        and content.keys() <= known
        and isinstance(context, dict)
        and context.keys() <= _PLAIN_CONTEXT
    )


def _file(kind: str, message: Object) -> Object | None:
    """The object of the file: under the name of the kind, or the one that has the form of a file."""
    if kind in _WITHOUT_FILE:
        return None
    found = field(message, kind)
    if kind in _FILES and name_of(found, "id"):
        return dict(found)
    candidates = [found, *(each for name, each in message.items() if name not in _WITHOUT_FILE)]
    return next((each for each in candidates if _has_form_of_file(each)), None)


def _has_form_of_file(found: Any) -> bool:
    return name_of(found, "id") is not None and bool(name_of(found, "mime_type") or name_of(found, "sha256"))


def _at(*names: str) -> Callable[[Object], str | None]:
    return lambda message: text(message, *names)


def _other(message: Object) -> str | None:
    """The text of a kind that we do not know, where such texts usually are."""
    kind = name_of(message, "type") or ""
    found = (text(message, kind, name) for name in ("body", "text", "caption", "title", "name", "description"))
    return next(filter(None, found), None) or text(message, kind)


def _button(message: Object) -> str | None:
    return text(message, "button", "text") or text(message, "button", "payload")


def _answer(message: Object) -> str | None:
    """The title of the option that was chosen, or the text that came with a form."""
    chosen = field(message, "interactive")
    kind = name_of(chosen, "type") or ""
    found = (text(chosen, kind, name) for name in ("title", "body", "text", "name", "description", "response", "id"))
    return next(filter(None, found), None)


def _place(message: Object) -> str | None:
    place = field(message, "location")
    named = ", ".join(filter(None, (text(place, "name"), text(place, "address"))))
    latitude, longitude = field(place, "latitude"), field(place, "longitude")
    return named or (
        f"{latitude}, {longitude}" if latitude is not None and longitude is not None else text(place, "url")
    )


def _people(message: Object) -> str | None:
    return ", ".join(filter(None, map(_card, objects(message, "contacts")))) or None


def _card(card: Object) -> str | None:
    """A card's name; without one, its company or the first of its numbers and addresses."""
    parts = (text(card, "name", part) for part in ("first_name", "middle_name", "last_name"))
    name = text(card, "name", "formatted_name") or " ".join(filter(None, parts)) or text(card, "org", "company")
    numbers = (text(each, "phone") or text(each, "wa_id") for each in objects(card, "phones"))
    addresses = (text(each, "email") for each in objects(card, "emails"))
    return name or next(filter(None, (*numbers, *addresses)), None)


def _order(message: Object) -> str | None:
    """The text of an order, or its products: `2 x SKU-1, 1 x SKU-2`."""
    items = objects(field(message, "order"), "product_items")
    lines = (
        f"{field(item, 'quantity') or 1} x {name}" for item in items if (name := name_of(item, "product_retailer_id"))
    )
    return text(message, "order", "text") or ", ".join(lines) or None


def _errors_of(message: Object) -> str | None:
    found = [read_error(each) for each in objects(message, "errors")] or [read_error(field(message, "error"))]
    return "; ".join(error.message for error in found if error) or None


_WORDS: dict[str, Callable[[Object], str | None]] = {
    "text": _at("text", "body"),
    "image": _at("image", "caption"),
    "video": _at("video", "caption"),
    "audio": _at("audio", "caption"),
    "document": _at("document", "caption"),
    "sticker": _at("sticker", "caption"),
    "button": _button,
    "interactive": _answer,
    "location": _place,
    "contacts": _people,
    "order": _order,
    "system": _at("system", "body"),
    "reaction": _at("reaction", "emoji"),
    "unsupported": _errors_of,
    "unknown": _errors_of,
    "errors": _errors_of,
}
