"""Meta's webhooks: inbound messages, status reports of sent messages, and notices (Webhooks reference).

Nothing is dropped: a message of an unknown kind is kept under Meta's name of that kind, anything else as a notice.
Fields that we do not know, and messages and receipts of groups, touch no chat: they are notices as well.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from services.connectors.meta.translation import contents, notices
from services.connectors.meta.translation.errors import FILE_REFUSED, read_error
from services.connectors.untrusted_json import field, load, name_of, objects, seconds, text
from services.display_names import person_name
from services.message import (
    Edit,
    Incoming,
    Notice,
    Peer,
    Reaction,
    Renaming,
    Revocation,
    Status,
    StatusUpdate,
    Update,
    is_user_id,
)

Object = dict[str, Any]

#: The fields with what happens in chats as it happens. Some senders leave the name out.
_LIVE = ("messages", "")
#: The field with messages that the business sent from its own phone.
_ECHOES = "smb_message_echoes"
#: Fields with messages that raise no events: of the time before the number was linked, and those that another program
#: answers ("Coexistence", "Conversation routing").
_BACKFILL = ("history", "standby")
#: The field that reports new business-scoped user ids.
_USER_IDS = "user_id_update"
#: Fields that say nothing about the state of a number or an account.
_ABOUT_PEOPLE = (
    *_LIVE, *_BACKFILL, _ECHOES, _USER_IDS, "smb_app_state_sync", "calls", "messaging_handovers", "automatic_events",
    "tracking_events", "group_lifecycle_update", "group_participants_update", "group_settings_update",
)  # fmt: skip
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
#: The words of the history for the same; the others are not known to us.
_PAST_STATUSES = _STATUSES | {"error": Status.FAILED, "pending": Status.SENT}
#: Fields of a status report that are kept beside the status.
_REPORT_DETAILS = (
    "pricing", "conversation", "errors", "recipient_id", "recipient_user_id", "recipient_parent_user_id",
    "recipient_identity_key_hash",
)  # fmt: skip
#: Fields that only the receipts of groups have.
_GROUP_RECEIPT = ("group_id", "recipient_participant_id", "recipient_participant_user_id", "participant_recipient_id")
#: The system messages that report a new number or user id.
_RENAMINGS = ("user_changed_number", "customer_changed_number", "user_changed_user_id", "customer_changed_user_id")

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


@dataclass(frozen=True, slots=True)
class _Source:
    """The origin of updates: the field of a change, with the number and the account that it names."""

    field: str
    number: str | None
    account: str | None
    own_digits: str | None  # our number as people dial it

    def notice(self, value: Object) -> Notice:
        """A part of the change that changes no chat. If it names no number, operators alone learn of it."""
        account = self.account if self.number else None
        return Notice("provider.update", self.field, self.number, account, value, for_operators=self.number is None)


def _change(account: str | None, change: Object) -> Iterator[Update]:
    name, value = name_of(change, "field") or "", field(change, "value")
    value = value if isinstance(value, dict) else {"value": value}
    number = name_of(value, "metadata", "phone_number_id")
    source = _Source(name, number, account, _only_digits(field(value, "metadata", "display_phone_number")))
    found = list(_of_chats(value, source))
    if not found or value.get("errors") or name in (*_BACKFILL, _USER_IDS):
        for_operators = bool(value.get("errors")) or name not in _ABOUT_PEOPLE
        found.append(notices.notice(name, number, account, value, for_operators))
    yield from found


def _of_chats(value: Object, source: _Source) -> Iterator[Update]:
    """The updates that belong to chats, and the parts that cannot be placed in one."""
    contacts = _Contacts(value)
    if source.field in _LIVE:
        yield from _messages(objects(value, "messages"), contacts, source)
        for status in objects(value, "statuses"):
            if source.number and status:
                yield _report(status, source)
    elif source.field == _ECHOES:
        yield from _messages(objects(value, "message_echoes"), contacts, source, from_me=True)
    elif source.field in _BACKFILL:
        threads = [thread for part in objects(value, "history") for thread in objects(part, "threads")]
        for thread in [value, *threads]:
            yield from _past_messages(thread, contacts, source)
    elif source.field == _USER_IDS and source.number:
        yield from filter(None, (_user_id_change(each, source.number) for each in objects(value, _USER_IDS)))


def _messages(
    messages: list[Object], contacts: "_Contacts", source: _Source, from_me: bool = False
) -> Iterator[Update]:
    for message in messages:
        sender = contacts.other_side(message, from_me)
        if not source.number or not sender or message.get("group_id"):
            about = contacts.contact_of(message) if message.get("group_id") else {}
            yield source.notice(message | {"contact": about} if about else message)
            continue
        if renaming := _renaming(message, sender, source.number):
            yield renaming
            sender = renaming.current
        update = _message(message, source.number, sender, from_me) or source.notice(message)
        if isinstance(update, Incoming) and (username := text(contacts.contact_of(message), "profile", "username")):
            update = replace(update, details=update.details | {"username": username})
        yield update


def _past_messages(thread: Object, contacts: "_Contacts", source: _Source) -> Iterator[Update]:
    """The messages of a thread of the history; those that cannot be placed are in the notice of the whole."""
    other = Peer(_digits(thread.get("id")) or _digits(field(thread, "context", "wa_id")), _user_of(thread))
    for message in objects(thread, "messages"):
        sent_by_us = _is_of_business(message, source)
        side = contacts.other_side(message, sent_by_us)
        sender = side if side and (side.chat_id or not other.chat_id) else replace(side or other, chat_id=other.chat_id)
        if not source.number or message.get("group_id") or not (sender.chat_id or sender.user_id):
            continue
        update = _message(message, source.number, sender, sent_by_us)
        if isinstance(update, Incoming):
            word = (text(message, "history_context", "status") or "").lower()
            yield replace(update, backfill=True, status=_PAST_STATUSES.get(word, Status.SENT))
        elif isinstance(update, Reaction | Edit | Revocation):
            yield replace(update, backfill=True)


def _is_of_business(message: Object, source: _Source) -> bool:
    sender = _digits(message.get("from"))
    return (
        field(message, "history_context", "from_me") is True
        or (sender is not None and sender == source.own_digits)
        or (sender is None and message.get("from_user_id") is None and bool(message.get("to")))
    )


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
        user_id = user_id or (None if chat_id else _user(field(message, "system", "previous_user_id")))
        profile = field(contact, "profile")
        person = person_name(field(profile, "name")) or person_name(field(profile, "username"))
        return Peer(chat_id, user_id, person) if chat_id or user_id else None

    def contact_of(self, message: Object) -> Object:
        """The contact of the sender; empty if there is none."""
        return self._contact(_digits(message.get("from")), _user(message.get("from_user_id")))

    def _contact(self, chat_id: str | None, user_id: str | None) -> Object:
        if chat_id is None and user_id is None:
            return self._contacts[0] if len(self._contacts) == 1 else {}
        return next((self._known[name] for name in (chat_id, user_id) if name and name in self._known), {})


def _digits(value: Any) -> str | None:
    found = _DIGITS.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else None


def _only_digits(value: Any) -> str | None:
    """The digits of a number that is written for people: +1 555-078-3881."""
    return _digits(re.sub(r"[^0-9]", "", value)) if isinstance(value, str) else None


def _user(value: Any) -> str | None:
    return value if isinstance(value, str) and is_user_id(value) else None


def _user_of(thread: Object) -> str | None:
    return _user(thread.get("id")) or _user(field(thread, "context", "user_id"))


def _message(message: Object, number: str, sender: Peer, from_me: bool) -> Update | None:
    """One message; None if it has no id."""
    provider_id, kind = name_of(message, "id"), (name_of(message, "type") or "unknown")[:_MAX_KIND]
    at = seconds(message.get("timestamp"))
    target = name_of(message, kind, "original_message_id")
    if kind == "revoke" and target:
        return Revocation(number, sender, target, at, from_me)
    if kind == "edit" and target:
        return Edit(number, sender, target, _edited(message), at, from_me)
    if provider_id is None:
        return None
    if kind == "reaction" and (target := name_of(message, "reaction", "message_id")):
        emoji = text(message, "reaction", "emoji") or ""
        return Reaction(number, provider_id, sender, target, emoji, at, from_me)
    words, quoted = contents.words(kind, message), name_of(message, "context", "id")
    if kind == "text" and words is None:
        kind = "unsupported"  # the message as a whole is kept
    return Incoming(
        number, provider_id, sender, kind, at, words, quoted, contents.media(kind, message), message, from_me,
        details=contents.details(message), plain=contents.is_plain(kind, message),
    )  # fmt: skip


def _edited(message: Object) -> str:
    new = field(message, "edit", "message")
    kind = name_of(new, "type") or "text"
    return text(new, kind, "body") or text(new, kind, "caption") or text(message, "edit", "text", "body") or ""


def _renaming(message: Object, sender: Peer, number: str) -> Renaming | None:
    """The new number or user id that a system message reports."""
    system = field(message, "system")
    if name_of(message, "type") != "system" or name_of(system, "type") not in _RENAMINGS:
        return None
    chat_id = _digits(field(system, "wa_id")) or _digits(field(system, "new_wa_id")) or sender.chat_id
    user_id = _user(field(system, "user_id"))
    previous = Peer(sender.chat_id, _user(field(system, "previous_user_id")) or sender.user_id)
    if chat_id == previous.chat_id and user_id in (None, previous.user_id):
        return None
    return Renaming(number, previous, Peer(chat_id, user_id), seconds(message.get("timestamp")))


def _user_id_change(change: Object, number: str) -> Renaming | None:
    chat_id = _digits(change.get("wa_id"))
    previous = _user(field(change, "user_id", "previous")) or _user(change.get("previous_user_id"))
    current = _user(field(change, "user_id", "current")) or _user(change.get("user_id"))
    if current is None or current == previous or not (previous or chat_id):
        return None
    return Renaming(number, Peer(chat_id, previous), Peer(chat_id, current), seconds(change.get("timestamp")))


def _report(status: Object, source: _Source) -> Update:
    """A status report of a message of the bot; a notice if it is of a payment or a group, or its word is unknown."""
    provider_id, word = name_of(status, "id"), status.get("status")
    known = _STATUSES.get(word) if isinstance(word, str) else None
    if known is None or provider_id is None or status.get("type") == "payment" or _is_of_group(status):
        return source.notice(status)
    message_id, at = _message_id(status.get("biz_opaque_callback_data")), seconds(status.get("timestamp"))
    details = {name: status[name] for name in _REPORT_DETAILS if _fits(name, status.get(name))}
    details |= {"played": True} if word == "played" else {}
    code, reason = _failure(status) if known is Status.FAILED else (None, None)
    recipient = _digits(status.get("recipient_id")) or _user(status.get("recipient_user_id"))
    return StatusUpdate(
        provider_id,
        known,
        at,
        message_id,
        code,
        reason,
        details,
        source.number or "",
        code == str(FILE_REFUSED),
        recipient,
    )


def _fits(name: str, value: Any) -> bool:
    """Whether a detail of a report is of the type that its event has."""
    expected = dict if name in ("pricing", "conversation") else list if name == "errors" else str
    return bool(value) and isinstance(value, expected)


def _is_of_group(status: Object) -> bool:
    recipient = text(status, "recipient_id")
    return (
        status.get("recipient_type") == "group"
        or any(status.get(name) for name in _GROUP_RECEIPT)
        or (recipient is not None and _digits(recipient) is None and _user(recipient) is None)
    )


def _failure(status: Object) -> tuple[str | None, str]:
    error = next(filter(None, map(read_error, objects(status, "errors"))), None)
    return (str(error.code), error.message) if error else (None, "Meta gave no reason")


def _message_id(echoed: Any) -> str | None:
    """Our id of the message; None if another program put something else there."""
    try:
        return str(UUID(echoed)) if isinstance(echoed, str) else None
    except ValueError:
        return None
