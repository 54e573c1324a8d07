"""Meta's webhooks: inbound messages, status reports of sent messages, and notices (Webhooks reference).

Nothing is dropped: a message of an unknown kind is kept under Meta's name of that kind, anything else as a notice.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from services.connectors.meta.translation.errors import FILE_REFUSED, read_error
from services.connectors.untrusted_json import field, load, name_of, objects, seconds, text
from services.message import (
    Edit,
    Incoming,
    Media,
    Notice,
    Peer,
    Reaction,
    Revocation,
    Status,
    StatusUpdate,
    Update,
    is_user_id,
)

Object = dict[str, Any]

#: The customer's events by the webhook's field; every field that is not here becomes `provider.update`.
_NOTICES = {
    "message_template_status_update": "template.status",
    "message_template_quality_update": "template.status",
    "message_template_components_update": "template.status",
    "template_category_update": "template.status",
    "account_update": "account.update",
    "account_review_update": "account.update",
    "phone_number_quality_update": "number.quality",
    "phone_number_name_update": "number.quality",
    "business_capability_update": "account.capability",
    "account_alerts": "account.alert",
    "user_preferences": "user.preferences",
}
#: The field with messages that the business sent from its own phone, and the name of its list.
_ECHOES = {"smb_message_echoes": "message_echoes"}
_FILES = ("image", "video", "audio", "document", "sticker")
#: Maximum length of a message's kind, in characters; the column of the history has 50.
_MAX_KIND = 50
#: Meta's words for the status of a message. `played`: someone listened to a voice message.
_STATUSES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "played": Status.READ,
    "failed": Status.FAILED,
}
#: Fields of a status report that are kept beside the status.
_REPORT_DETAILS = ("pricing", "conversation", "recipient_user_id")

_DIGITS = re.compile(r"\+?([0-9]{5,20})", re.ASCII)


def parse(body: bytes) -> list[Update]:
    """The updates in one webhook, in their order. Raises ValueError if it is not a WhatsApp webhook."""
    webhook = load(body)
    if field(webhook, "object") != "whatsapp_business_account" or not isinstance(webhook.get("entry"), list):
        raise ValueError("not a webhook of a WhatsApp Business account")
    return [
        update
        for entry in objects(webhook, "entry")
        for change in objects(entry, "changes")
        for update in _change(name_of(entry, "id"), change)
    ]


def _change(account: str | None, change: Object) -> Iterator[Update]:
    name, value = name_of(change, "field") or "", field(change, "value")
    value = value if isinstance(value, dict) else {"value": value}
    number = name_of(value, "metadata", "phone_number_id")
    found = list(_messages(value, number, name, account))
    if number and name in ("", "messages"):
        found += [update for status in objects(value, "statuses") if (update := _report(status, number))]
    if not found or value.get("errors"):
        found.append(Notice(_NOTICES.get(name, "provider.update"), name, number, account, value))
    yield from found


def _messages(value: Object, number: str | None, name: str, account: str | None) -> Iterator[Update]:
    contacts = _Contacts(value)
    for message in objects(value, _ECHOES.get(name, "messages")):
        sender = contacts.other_side(message, name in _ECHOES)
        update = number and sender and _message(message, number, sender, name in _ECHOES)
        yield update or Notice("provider.update", name, number, account if number else None, message)


class _Contacts:
    """The contacts of a value, by phone number and by user id. They may be missing."""

    def __init__(self, value: Object) -> None:
        self._contacts = objects(value, "contacts")
        self._known: dict[str | None, Object] = {}
        for contact in reversed(self._contacts):  # of several with the same number, the first counts
            self._known |= dict.fromkeys((_digits(contact.get("wa_id")), _user(contact.get("user_id"))), contact)

    def other_side(self, message: Object, from_me: bool) -> Peer | None:
        """The other side of the chat; None if the message names neither its number nor its user id."""
        side = "to" if from_me else "from"
        chat_id, user_id = _digits(message.get(side)), _user(message.get(f"{side}_user_id"))
        contact = self._contact(chat_id, user_id)
        chat_id, user_id = chat_id or _digits(contact.get("wa_id")), user_id or _user(contact.get("user_id"))
        person = name_of(contact, "profile", "name") or name_of(contact, "profile", "username")
        return Peer(chat_id, user_id, person) if chat_id or user_id else None

    def _contact(self, chat_id: str | None, user_id: str | None) -> Object:
        if chat_id is None and user_id is None:
            return self._contacts[0] if len(self._contacts) == 1 else {}
        return next((self._known[name] for name in (chat_id, user_id) if name and name in self._known), {})


def _digits(value: Any) -> str | None:
    found = _DIGITS.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else None


def _user(value: Any) -> str | None:
    return value if isinstance(value, str) and is_user_id(value) else None


def _message(message: Object, number: str, sender: Peer, from_me: bool) -> Update | None:
    """One message; None if it has no id."""
    provider_id, kind = name_of(message, "id"), (name_of(message, "type") or "unknown")[:_MAX_KIND]
    at = seconds(message.get("timestamp"))
    target = name_of(message, kind, "original_message_id")
    if kind == "revoke" and target:
        return Revocation(number, sender, target, at)
    if kind == "edit" and target:
        return Edit(number, sender, target, _edited(message), at)
    if provider_id is None:
        return None
    if kind == "reaction" and (target := name_of(message, "reaction", "message_id")):
        emoji = text(message, "reaction", "emoji") or ""
        return Reaction(number, provider_id, sender, target, emoji, at, from_me)
    words, quoted = _TEXTS.get(kind, _nothing)(message), name_of(message, "context", "id")
    if kind == "text" and words is None:
        kind = "unsupported"  # the message as a whole is kept
    return Incoming(number, provider_id, sender, kind, at, words, quoted, _media(kind, message), message, from_me)


def _report(status: Object, number: str) -> StatusUpdate | None:
    """A status report of a message of the bot; None if the status is not one of a message's life."""
    provider_id, word = name_of(status, "id"), status.get("status")
    known = _STATUSES.get(word) if isinstance(word, str) else None
    if known is None or provider_id is None:
        return None
    message_id, at = _message_id(status.get("biz_opaque_callback_data")), seconds(status.get("timestamp"))
    details = {name: status[name] for name in _REPORT_DETAILS if status.get(name)}
    code, reason = _failure(status) if known is Status.FAILED else (None, None)
    return StatusUpdate(provider_id, known, at, message_id, code, reason, details, number, code == str(FILE_REFUSED))


def _failure(status: Object) -> tuple[str | None, str]:
    error = next(filter(None, map(read_error, objects(status, "errors"))), None)
    return (str(error.code), error.message) if error else (None, "Meta gave no reason")


def _message_id(echoed: Any) -> str | None:
    """Our id of the message; None if another program put something else there."""
    try:
        return str(UUID(echoed)) if isinstance(echoed, str) else None
    except ValueError:
        return None


def _edited(message: Object) -> str:
    new = field(message, "edit", "message")
    kind = name_of(new, "type") or "text"
    return text(new, kind, "body") or text(new, kind, "caption") or text(message, "edit", "text", "body") or ""


def _media(kind: str, message: Object) -> Media | None:
    file = field(message, kind)
    media_id = name_of(file, "id")
    if kind not in _FILES or media_id is None:
        return None
    return Media(
        media_id,
        name_of(file, "mime_type") or "application/octet-stream",
        name_of(file, "sha256"),
        name_of(file, "filename"),
        field(file, "voice") is True,
        field(file, "animated") is True,
        text(file, "url"),
    )


def _at(*names: str) -> Callable[[Object], str | None]:
    return lambda message: text(message, *names)


def _nothing(message: Object) -> None:
    return None


def _answer(message: Object) -> str | None:
    """The title of the option that was chosen, or the text that came with a form."""
    chosen = field(message, "interactive")
    kind = name_of(chosen, "type") or ""
    return text(chosen, kind, "title") or text(chosen, kind, "body")


def _place(message: Object) -> str | None:
    place = field(message, "location")
    named = ", ".join(filter(None, (text(place, "name"), text(place, "address"))))
    latitude, longitude = field(place, "latitude"), field(place, "longitude")
    return named or (f"{latitude}, {longitude}" if latitude is not None and longitude is not None else None)


def _people(message: Object) -> str | None:
    cards = objects(message, "contacts")
    names = (text(each, "name", "formatted_name") or text(each, "name", "first_name") for each in cards)
    return ", ".join(filter(None, names)) or None


def _errors_of(message: Object) -> str | None:
    found = [read_error(each) for each in objects(message, "errors")] or [read_error(field(message, "error"))]
    return "; ".join(error.message for error in found if error) or None


#: The readable text of each kind.
_TEXTS: dict[str, Callable[[Object], str | None]] = {
    "text": _at("text", "body"),
    "image": _at("image", "caption"),
    "video": _at("video", "caption"),
    "document": _at("document", "caption"),
    "button": _at("button", "text"),
    "interactive": _answer,
    "location": _place,
    "contacts": _people,
    "order": _at("order", "text"),
    "system": _at("system", "body"),
    "unsupported": _errors_of,
    "errors": _errors_of,
}
