"""What the page is asked to do for each kind of message: the calls of wa-js (WA-JS API, `chat`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.media.kinds import extension
from services.message import DeletePayload, EditPayload, Outgoing, Payload, ReactionPayload, ReadPayload

Fields = dict[str, Any]

#: The kinds that carry a file.
FILES = frozenset({"image", "video", "audio", "document", "sticker"})
#: The kinds that become a message with a key of its own; to do one of the others twice changes nothing.
KEYED = FILES | {"text"}

# Nobody else is asked for a preview of a link, the chat is not marked as read, and the acknowledgement is looked for
# rather than waited for, so that one slow message holds up no other chat.
_QUIET = {"linkPreview": False, "markIsRead": False, "waitForAck": False, "detectMentioned": False}


@dataclass(frozen=True, slots=True)
class PageCall:
    """A function of the page and what it is given."""

    function: str
    arguments: tuple[Any, ...]


def page_id(chat_id: str) -> str:
    """A chat's id as the page has it: groups and hidden numbers as they are, a number as `<digits>@c.us`."""
    return chat_id if "@" in chat_id else f"{chat_id}@c.us"


def text(message: Outgoing, key: str) -> PageCall:
    """Send a text under this key. Raises KeyError where the payload lacks it."""
    options = _options(message, key)
    return PageCall("WPP.chat.sendTextMessage", (page_id(message.chat_id), message.payload["message"], options))


def file_options(message: Outgoing, key: str, mime_type: str) -> Fields:
    """How the message's file is to be sent under this key."""
    payload, options = message.payload, _options(message, key) | {"type": message.kind, "mimetype": mime_type}
    if caption := payload.get("caption"):
        options["caption"] = caption
    if message.kind == "audio" and payload.get("voice"):
        options |= {"isPtt": True, "waveform": True}
    name = payload.get("filename") or payload["media"].get("filename")
    return options | {"filename": name or f"file.{extension(mime_type)}"}


def acts(message: Outgoing) -> list[PageCall]:
    """What does a message that has no key. Raises KeyError for a kind that is not known, or a payload without it."""
    return _ACTS[message.kind](page_id(message.chat_id), message.payload)


def _options(message: Outgoing, key: str) -> Fields:
    options: Fields = {"messageId": key, **_QUIET}
    if quoted := message.payload.get("quoted_provider_id"):
        options["quotedMsg"] = quoted
    if mentions := message.payload.get("mentions"):
        options["mentionedList"] = [page_id(number) for number in mentions]
    return options


def _reaction(_: str, payload: ReactionPayload) -> list[PageCall]:
    emoji = payload["reaction"] or False
    return [PageCall("WPP.chat.sendReactionToMessage", (payload["target_provider_id"], emoji))]


def _read(chat: str, payload: ReadPayload) -> list[PageCall]:
    calls = [PageCall("WPP.chat.markIsRead", (chat,))]
    return [*calls, PageCall("WPP.chat.markIsComposing", (chat,))] if payload.get("typing") else calls


def _edit(_: str, payload: EditPayload) -> list[PageCall]:
    return [PageCall("WPP.chat.editMessage", (payload["target_provider_id"], payload["message"], _QUIET))]


def _delete(chat: str, payload: DeletePayload) -> list[PageCall]:
    revoke = payload["deleteForEveryone"]
    return [PageCall("WPP.chat.deleteMessage", (chat, payload["target_provider_id"], False, revoke))]


_ACTS: dict[str, Callable[[str, Payload], list[PageCall]]] = {
    "reaction": _reaction, "read": _read, "edit": _edit, "delete": _delete,
}  # fmt: skip
