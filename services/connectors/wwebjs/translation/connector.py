"""WhatsApp Web through a browser's page: a message becomes calls of wa-js (WA-JS API, `chat`)."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from bisnesctl.settings import Settings
from services.connector import LocalFile, PageCall, PageRequest, Preparation, Refusal
from services.connectors.outgoing_files import Files, NoFile, given_name
from services.media.fetch import Fetcher
from services.media.kinds import extension
from services.media.store import MediaStore, media_store
from services.message import Bot, Outgoing, Rejected

Fields = dict[str, Any]

#: The kinds of messages that carry a file.
FILE_KINDS = frozenset({"image", "video", "audio", "document", "sticker"})
#: The kinds that become a message with a key of its own. To repeat one of the other kinds changes nothing.
KEYED_KINDS = FILE_KINDS | {"text"}

# No server is asked for a preview of a link, the chat is not marked as read, and a call for whose end we wait does not
# wait for WhatsApp's acknowledgement, so that one slow message does not delay the other chats.
_QUIET = {"linkPreview": False, "markIsRead": False, "waitForAck": False, "detectMentioned": False}


class WwebjsConnector:
    """Translates between messages and the page of WhatsApp Web. Safe for threads."""

    process_name = "wwebjs"

    def __init__(self, settings: Settings, store: MediaStore | None = None, fetcher: Fetcher | None = None) -> None:
        """`store` holds the files that messages name by key. Store and fetcher default to those of the settings."""
        self._files = Files(store or media_store(settings), fetcher or Fetcher(settings.open_networks))
        self._prepared: dict[int, LocalFile] = {}  # files on disk, by the outbox id of their message

    def request(self, bot: Bot, message: Outgoing) -> PageRequest | Preparation | Refusal:
        """The calls that send the message, or the preparation that brings its file to disk."""
        try:
            request = page_request(message, self._prepared.pop(message.id, None))
        except KeyError as missing:
            # A newer version may have accepted it. It must not block the messages behind it.
            return Rejected("payload", f"this version cannot send messages of type {message.kind} without {missing}")
        if message.kind in FILE_KINDS and request.file is None:
            return Preparation(partial(self._prepare, message))
        return request

    def probe(self, bot: Bot, outage: str) -> None:
        """No check: the session itself knows whether its page works."""

    def _prepare(self, message: Outgoing) -> Refusal | None:
        file = ExitStack()
        try:
            path, mime_type, filename = file.enter_context(self._files.of(message))
        except NoFile as error:
            return error.refusal
        self._prepared[message.id] = LocalFile(path, mime_type, file.close, filename)
        return None


def page_id(chat_id: str) -> str:
    """The page's id of a chat: `<digits>@c.us` for a phone number; groups and hidden numbers stay as they are."""
    return chat_id if "@" in chat_id else f"{chat_id}@c.us"


def page_request(message: Outgoing, file: LocalFile | None = None) -> PageRequest:
    """The calls that send a message. Those of a keyed kind end with options, to which `PageSend` adds the key.

    Raises KeyError if the kind is unknown, or if the payload lacks a field that its kind needs.
    """
    kind = "file" if message.kind in FILE_KINDS else message.kind
    return PageRequest(message, _CALLS[kind](message, page_id(message.chat_id), file), file)


def _text(message: Outgoing, chat: str, _: LocalFile | None) -> tuple[PageCall, ...]:
    return (PageCall("WPP.chat.sendTextMessage", (chat, message.payload["message"], _options(message))),)


def _file(message: Outgoing, chat: str, file: LocalFile | None) -> tuple[PageCall, ...]:
    payload, mime_type = message.payload, file.mime_type if file else ""
    options = _options(message) | {"type": message.kind, "mimetype": mime_type}
    if caption := payload.get("caption"):
        options["caption"] = caption
    if message.kind == "audio" and payload.get("voice"):
        options |= {"isPtt": True, "waveform": True}
    name = given_name(message) or (file and file.filename)
    return (PageCall("__wa.sendFile", (chat, options | {"filename": name or f"file.{extension(mime_type)}"})),)


def _options(message: Outgoing) -> Fields:
    options: Fields = dict(_QUIET)
    if quoted := message.payload.get("quoted_provider_id"):
        options["quotedMsg"] = quoted
    if mentions := message.payload.get("mentions"):
        options["mentionedList"] = [page_id(number) for number in mentions]
    return options


def _reaction(message: Outgoing, _: str, __: LocalFile | None) -> tuple[PageCall, ...]:
    emoji = message.payload["reaction"] or False
    return (PageCall("WPP.chat.sendReactionToMessage", (message.payload["target_provider_id"], emoji)),)


def _read(message: Outgoing, chat: str, _: LocalFile | None) -> tuple[PageCall, ...]:
    read, typing = PageCall("WPP.chat.markIsRead", (chat,)), PageCall("WPP.chat.markIsComposing", (chat,))
    return (read, typing) if message.payload.get("typing") else (read,)


def _edit(message: Outgoing, _: str, __: LocalFile | None) -> tuple[PageCall, ...]:
    payload = message.payload
    return (PageCall("WPP.chat.editMessage", (payload["target_provider_id"], payload["message"], _QUIET)),)


def _delete(message: Outgoing, chat: str, _: LocalFile | None) -> tuple[PageCall, ...]:
    payload = message.payload
    arguments = (chat, payload["target_provider_id"], False, payload["deleteForEveryone"])
    return (PageCall("WPP.chat.deleteMessage", arguments),)


_CALLS: dict[str, Callable[[Outgoing, str, LocalFile | None], tuple[PageCall, ...]]] = {
    "text": _text,
    "file": _file,
    "reaction": _reaction,
    "read": _read,
    "edit": _edit,
    "delete": _delete,
}
