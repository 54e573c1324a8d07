"""Events of the page: messages, acknowledgements, reactions, edits, revocations and calls.

The events are those of wa-js, in the shapes of messages.js. A message has a key, `<fromMe>_<chat>_<id>` followed by
`_<author>` in groups, which is the provider's id everywhere else.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from services.connectors.untrusted_json import field, load, name_of, objects, seconds, text
from services.display_names import person_name
from services.media import names
from services.message import Call, Edit, Incoming, Media, Peer, Reaction, Revocation, Status, StatusUpdate, Update

Object = dict[str, Any]

#: Our names of WhatsApp Web's kinds; the other kinds keep their names.
_KINDS = {
    "chat": "text",
    "ptt": "audio",
    "ptv": "video",
    "vcard": "contacts",
    "multi_vcard": "contacts",
    "buttons_response": "button",
    "template_button_reply": "button",
    "list_response": "interactive",
    "poll_creation": "poll",
}
_FILES = ("image", "video", "audio", "document", "sticker")
#: Kinds of entries in the page that no person wrote. A ciphertext is followed by the decrypted message.
_IGNORED_KINDS = {
    "album",
    "broadcast_notification",
    "call_log",
    "ciphertext",
    "debug",
    "e2e_notification",
    "gp2",
    "group_notification",
    "keep_in_chat",
    "newsletter_notification",
    "notification",
    "notification_template",
    "pin_message",
    "poll_update",
    "protocol",
    "reaction",
    "unknown",
}
#: WhatsApp's acknowledgements. 4: someone listened to a voice message.
_ACKS = {1: Status.SENT, 2: Status.DELIVERED, 3: Status.READ, 4: Status.READ}
#: Maximum length of a kind in characters, as in the column of the history.
_MAX_KIND = 50
#: From this score on, WhatsApp shows a message as forwarded many times.
_MANY_FORWARDS = 5

_KEY = re.compile(r"(true|false)_([^_\s]+@[a-z.]+)_([^_\s]+)(?:_\S+)?", re.ASCII)
_PERSON = re.compile(r"\+?([1-9][0-9]{4,19})(?::[0-9]+)?@(?:c\.us|s\.whatsapp\.net)", re.ASCII)
_HIDDEN = re.compile(r"([0-9]{1,60})(?::[0-9]+)?@lid", re.ASCII)
_GROUP = re.compile(r"[0-9]+(?:-[0-9]+)?@g\.us", re.ASCII)


def parse(body: bytes) -> list[Update]:
    """The updates in one stored event. Raises ValueError if it is not an event, or lacks a valid key."""
    event = load(body)
    name, data = name_of(event, "name"), field(event, "data")
    reader = _READERS.get(name or "")
    if reader is None or not isinstance(data, dict):
        raise ValueError("not an event of WhatsApp Web about messages or calls")
    return reader(data, seconds(event.get("at")))


class _Key(NamedTuple):
    """The parts of a message's key."""

    whole: str
    from_me: bool
    chat: str


def _key(data: Any, *names: str) -> _Key:
    key = name_of(data, *names) or ""
    found = _KEY.fullmatch(key)
    if found is None:
        raise ValueError(f"{'.'.join(names)} is not the key of a message: {key[:80]!r}")
    return _Key(key, found[1] == "true", found[2])


def _side(chat: str, phone: str | None = None, name: str | None = None) -> Peer | None:
    """The other side of a chat; None if it is no conversation: status posts, channels, broadcast lists.

    `phone`: the phone number of a hidden user, if WhatsApp knows it.
    """
    if person := _PERSON.fullmatch(chat):
        return Peer(person[1], None, name)
    if hidden := _HIDDEN.fullmatch(chat):
        known = _PERSON.fullmatch(phone or "")
        return Peer(known[1] if known else None, f"{hidden[1]}@lid", name)
    return Peer(chat, None, name) if _GROUP.fullmatch(chat) and len(chat) <= 64 else None


def _name(data: Object, key: _Key | None = None) -> str | None:
    """The name of the author; None for our own messages, whose author is not the chat."""
    return None if key and key.from_me else person_name(field(data, "name"))


def _message(data: Object, at: float) -> list[Update]:
    """A message, and its later edit, revocation or acknowledgement if it is reported late."""
    key, kind = _key(data, "id"), name_of(data, "type") or "unknown"
    side = _side(key.chat, text(data, "phone"), _name(data, key))
    ack = _ack(data)
    if side is None or kind in _IGNORED_KINDS or (key.from_me and ack < 0):
        return []
    sent_at = seconds(data.get("t")) if data.get("t") else at
    updates: list[Update] = [_incoming(data, key, _KINDS.get(kind, kind)[:_MAX_KIND], side, sent_at)]
    if kind == "revoked":
        updates.append(Revocation("", side, key.whole, sent_at, key.from_me))
    elif data.get("edited"):
        updates += _edit(data, at)
    if key.from_me and ack in _ACKS:
        updates.append(_report(key, ack, sent_at))
    return updates


def _incoming(data: Object, key: _Key, kind: str, side: Peer, at: float) -> Incoming:
    media = _media(data, key, kind)
    content = {name: value for name, value in data.items() if value is not None} | _author(data)
    content |= {"chatName": group} if (group := person_name(field(data, "chatName"))) else {}
    if kind == "text":
        content = {name: content[name] for name in _BESIDE_TEXT if content.get(name)}
    words = _TEXTS.get(kind, _caption if kind in _FILES else _words)(data)
    if kind == "text" and words is None:
        kind = "unsupported"
    return Incoming(
        "", key.whole, side, kind, at, words, name_of(data, "quoted"), media, content, key.from_me,
        details=_details(data), plain=kind == "text" or kind in _FILES,
    )  # fmt: skip


#: The fields of a plain text that are kept beside the text itself.
_BESIDE_TEXT = ("author", "chatName", "mentioned", "isForwarded", "forwardingScore", "referral")


def _details(data: Object) -> Object:
    """The parts of a message that its event has under names of their own."""
    score, mentioned = field(data, "forwardingScore"), field(data, "mentioned")
    many = isinstance(score, int) and score >= _MANY_FORWARDS
    people = [side.chat_id or side.user_id for each in _texts(mentioned) if (side := _side(each))]
    found = {
        "forwarded": many or field(data, "isForwarded") is True,
        "frequentlyForwarded": many,
        "mentions": people,
        "referral": referral if isinstance(referral := field(data, "referral"), dict) else None,
    }
    return {name: value for name, value in found.items() if value}


def _texts(found: Any) -> list[str]:
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _author(data: Object) -> Object:
    """The author in a group, as a chat id of ours."""
    side = _side(text(data, "author") or "", text(data, "authorPhone"))
    return {"author": side.chat_id or side.user_id} if side else {}


def _media(data: Object, key: _Key, kind: str) -> Media | None:
    is_file = bool(name_of(data, "mimetype") and name_of(data, "filehash"))  # of a kind that we do not know
    if kind not in _FILES and (kind in _TEXTS or not is_file):
        return None
    mime_type = name_of(data, "mimetype") or "application/octet-stream"
    voice, animated = data.get("type") == "ptt", data.get("isGif") is True
    return Media(key.whole, mime_type, name_of(data, "filehash"), names.safe(text(data, "filename")), voice, animated)


def _ack(data: Object) -> int:
    ack = data.get("ack")
    return ack if isinstance(ack, int) else 0


def _report(key: _Key, ack: int, at: float) -> StatusUpdate:
    details = {"played": True} if ack == max(_ACKS) else {}
    side = None if _GROUP.fullmatch(key.chat) else _side(key.chat)
    recipient = side.chat_id or side.user_id if side else None
    return StatusUpdate(key.whole, _ACKS[ack], at, details=details, recipient=recipient)


def _acks(data: Object, at: float) -> list[Update]:
    """Status reports of our messages. Acknowledgements of other messages are our own."""
    ack, ids = _ack(data), data.get("ids")
    if not isinstance(ids, list):
        raise ValueError("an acknowledgement without ids")
    keys = [_key({"id": each}, "id") for each in ids]
    of_member = text(data, "sender") is not None  # of a group, whose other members may not have the message yet
    return [
        _report(key, min(ack, 1) if of_member and _GROUP.fullmatch(key.chat) else ack, at)
        for key in keys
        if key.from_me and ack in _ACKS
    ]


def _edit(data: Object, at: float) -> list[Update]:
    key = _key(data, "id")
    side = _side(key.chat, text(data, "phone"), _name(data, key))
    new = text(data, "caption") or text(data, "body") or ""
    edited = data.get("edited")
    at = at if edited in (None, True, False) else seconds(edited)
    return [Edit("", side, key.whole, new, at, key.from_me)] if side else []


def _edited(data: Object, at: float) -> list[Update]:
    message = field(data, "msg")
    if not isinstance(message, dict):
        raise ValueError("an edit without its message")
    return _edit(message, at)


def _revocation(data: Object, at: float) -> list[Update]:
    key = _key(data, "refId")
    side = _side(key.chat, text(data, "phone"))
    return [Revocation("", side, key.whole, at, key.from_me)] if side else []


def _reaction(data: Object, at: float) -> list[Update]:
    target, key = _key(data, "msgId"), _key(data, "id")
    side = _side(target.chat, text(data, "phone"), _name(data, key))
    if side is None:
        return []
    at = seconds(data.get("t")) if data.get("t") else at
    return [Reaction("", key.whole, side, target.whole, text(data, "text") or "", at, key.from_me)]


def _call(data: Object, at: float) -> list[Update]:
    number = name_of(data, "id")
    side = _side(text(data, "from") or "", text(data, "phone"), _name(data))
    if number is None or side is None:
        raise ValueError("a call without an id or a caller")
    at = seconds(data.get("t")) if data.get("t") else at
    return [Call("", number, side, at, data.get("isVideo") is True, data.get("isGroup") is True)]


def _caption(data: Object) -> str | None:
    return text(data, "caption") or text(data, "title")


def _body(data: Object) -> str | None:
    return text(data, "body") or text(data, "caption")


def _words(data: Object) -> str | None:
    """The words of other kinds: of templates, lists, buttons, polls, invitations, products."""
    return _body(data) or text(data, "title") or text(data, "description") or text(data, "footer")


def _place(data: Object) -> str | None:
    latitude, longitude = field(data, "lat"), field(data, "lng")
    return text(data, "loc") or (f"{latitude}, {longitude}" if latitude is not None and longitude is not None else None)


def _people(data: Object) -> str | None:
    return ", ".join(filter(None, (text(each, "name") for each in objects(data, "vcards")))) or None


#: The readable text of each kind.
_TEXTS: dict[str, Callable[[Object], str | None]] = {
    "text": _body,
    "location": _place,
    "contacts": _people,
    "button": _body,
    "interactive": lambda data: text(data, "title") or _body(data),
}

_READERS: dict[str, Callable[[Object, float], list[Update]]] = {
    "chat.new_message": _message,
    "chat.msg_ack_change": _acks,
    "chat.msg_edited": _edited,
    "chat.msg_revoke": _revocation,
    "chat.new_reaction": _reaction,
    "call.incoming_call": _call,
}
#: The events that are stored.
EVENTS = frozenset(_READERS)
