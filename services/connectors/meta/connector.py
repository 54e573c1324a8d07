"""Meta's Cloud API, called directly or through 360dialog: a message becomes a request, an answer becomes an outcome.

Source: Cloud API reference, "Messages".
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from bisnesctl.settings import Settings
from services.connector import NO_ANSWER, Again, Preparation, Refusal
from services.connectors.meta import outage_probe
from services.connectors.meta.translation import errors
from services.connectors.meta.upload_request import post_file
from services.connectors.meta.uploads import Uploads
from services.connectors.outgoing_files import Files, given_name
from services.http_exchange import HttpRequest
from services.media.fetch import Fetcher
from services.media.store import MediaStore, media_store
from services.message import (
    Bot,
    Outcome,
    Outgoing,
    Payload,
    ReactionPayload,
    ReadPayload,
    Rejected,
    Sent,
    TemplatePayload,
    TextPayload,
    Unknown,
    is_user_id,
)

#: The connection type of bots that are reached through 360dialog, which has the same API.
DIALOG360 = "360dialog"
#: The kinds of messages that carry a file.
MEDIA_KINDS = frozenset({"image", "video", "audio", "document", "sticker"})

Fields = dict[str, Any]


class Provider:
    """The addresses of a bot's provider, and the header with the bot's credential."""

    def __init__(self, settings: Settings) -> None:
        self._graph = f"{settings.graph_url}/{settings.meta_graph_version}"
        self._dialog360 = settings.dialog360_base

    def url(self, bot: Bot, path: str) -> str:
        """The address of the bot's `messages` or `media`. 360dialog identifies the bot by its key."""
        if bot.connection_type == DIALOG360:
            return f"{self._dialog360}/{path}"
        return f"{self._graph}/{bot.phone_number_id}/{path}"

    def number(self, bot: Bot) -> tuple[str, str]:
        """An address that reports on the phone number itself, and the header for it."""
        if bot.connection_type == DIALOG360:
            return f"{self._dialog360}/health_status", self.header(bot)
        return f"{self._graph}/{bot.phone_number_id}?fields=id", self.header(bot)

    def file_url(self, bot: Bot, media_id: str) -> str:
        """The address that describes a file, whether it was received or uploaded."""
        base = self._dialog360 if bot.connection_type == DIALOG360 else self._graph
        return f"{base}/{quote(media_id, safe='')}"

    def header(self, bot: Bot) -> str:
        """The header line with the credential. Never log it."""
        if bot.connection_type == DIALOG360:
            return f"D360-API-KEY: {bot.access_token.value}"
        return f"Authorization: Bearer {bot.access_token.value}"


class MetaConnector:
    """Translates between messages and Meta's Graph API."""

    process_name = "meta"

    def __init__(self, settings: Settings, store: MediaStore | None = None, fetcher: Fetcher | None = None) -> None:
        """`store` holds the files that messages name by key. Store and fetcher default to those of the settings."""
        self._provider = Provider(settings)
        self._upload_timeout_ms = settings.send_timeout_ms
        files = Files(store or media_store(settings), fetcher or Fetcher(settings.open_networks))
        self._uploads = Uploads(self._post_file, files)

    def request(self, bot: Bot, message: Outgoing) -> HttpRequest | Preparation | Refusal:
        """The request that sends the message, or the upload that must come first."""
        try:
            file = self._uploads.file_of(bot, message) if message.kind in MEDIA_KINDS else None
            if isinstance(file, Preparation):
                return file
            headers = (self._provider.header(bot), "Content-Type: application/json")
            return HttpRequest(self._provider.url(bot, "messages"), headers, body(message, file))
        except KeyError as missing:
            # A newer version may have accepted it. It must not block the messages behind it.
            return Rejected("payload", f"this version cannot send messages of type {message.kind} without {missing}")

    def probe(self, bot: Bot, outage: str) -> Preparation | None:
        """Ask for the phone number, if during this outage the outcome of a message would be unknown."""
        if outage != NO_ANSWER and not outage.startswith(errors.OUTAGE_PREFIX):
            return None
        return Preparation(partial(outage_probe.still_out, *self._provider.number(bot), outage))

    def outcome(self, message: Outgoing, status: int, body: bytes) -> Outcome | Again:
        """The meaning of an answer. If it is not the API's, a gateway may have cut it after the message had left."""
        answer = errors.read(body)
        if 200 <= status < 300 and (sent := _sent(message.kind, answer)):
            return sent
        if (error := errors.error_of(answer)) and self._uploads.knows_another_way(message, error):
            return Again()
        if refusal := errors.refusal(status, body):
            return refusal
        return Unknown(f"the answer makes no sense ({errors.shown(status, body)})", errors.outage(status))

    def _post_file(self, bot: Bot, path: Path, mime_type: str) -> tuple[int, bytes]:
        url, header = self._provider.url(bot, "media"), self._provider.header(bot)
        return post_file(url, header, path, mime_type, self._upload_timeout_ms)


def _sent(kind: str, answer: Any) -> Sent | None:
    """The success that an answer reports, if it does. A read receipt is not a message and has no id."""
    if kind == "read":
        return Sent() if errors.field(answer, "success") is True else None
    messages = errors.field(answer, "messages")
    found = errors.field(messages[0], "id") if isinstance(messages, list) and messages else None
    if not isinstance(found, str) or found == "" or not found.isprintable():
        return None
    return Sent(found, _recipient_in(answer))


def _recipient_in(answer: Any) -> str | None:
    """The chat as Meta calls it, which may know a number under another form (Brazil, Mexico, Argentina)."""
    contacts = errors.field(answer, "contacts")
    found = errors.field(contacts[0], "wa_id") if isinstance(contacts, list) and contacts else None
    digits = found.removeprefix("+") if isinstance(found, str) else ""
    return digits if digits.isascii() and digits.isdigit() and 5 <= len(digits) <= 20 else None


def body(message: Outgoing, file: dict[str, str] | None = None) -> bytes:
    """The JSON that sends the message. `file` refers to its file: {"id": …} or {"link": …}.

    Raises KeyError if the kind is unknown, or if the payload lacks a field that its kind needs.
    """
    if message.kind == "read":
        return orjson.dumps(_read(message.payload))
    fields = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "recipient" if is_user_id(message.chat_id) else "to": _recipient(message.chat_id),
        "type": message.kind,
        message.kind: _media(message, file) if file else _CONTENTS[message.kind](message.payload),
        # Every status report repeats it. It identifies the message if the answer to the send was lost.
        "biz_opaque_callback_data": message.message_id,
    }
    if message.kind != "reaction" and (quoted := message.payload.get("quoted_provider_id")):
        fields["context"] = {"message_id": quoted}
    return orjson.dumps(fields)


def _recipient(chat_id: str) -> str:
    """Without the plus, Meta prepends the country code of the sending number."""
    return chat_id if is_user_id(chat_id) else f"+{chat_id}"


def _text(payload: TextPayload) -> Fields:
    return {"body": payload["message"], "preview_url": True}


def _media(message: Outgoing, file: dict[str, str]) -> Fields:
    payload = message.payload
    fields: Fields = {name: value for name, value in file.items() if name != "filename"}
    if caption := payload.get("caption"):
        fields["caption"] = caption
    if message.kind == "document":
        linked = payload.get("filename") or payload["media"].get("filename")
        if filename := given_name(message) or file.get("filename") or linked:
            fields["filename"] = filename
    if message.kind == "audio" and payload.get("voice"):
        fields["voice"] = True
    return fields


def _template(payload: TemplatePayload) -> Fields:
    fields: Fields = {"name": payload["templateName"], "language": {"code": payload["language"]}}
    if components := payload.get("components") or _components(payload.get("variables")):
        fields["components"] = components
    return fields


def _components(variables: list[str] | None) -> list[Fields]:
    """The variables of a template's body, {{1}} first."""
    if not variables:
        return []
    return [{"type": "body", "parameters": [{"type": "text", "text": value} for value in variables]}]


def _reaction(payload: ReactionPayload) -> Fields:
    return {"message_id": payload["target_provider_id"], "emoji": payload["reaction"]}


def _read(payload: ReadPayload) -> Fields:
    fields: Fields = {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": payload["target_provider_id"],
    }
    if payload.get("typing"):
        fields["typing_indicator"] = {"type": "text"}
    return fields


_CONTENTS: dict[str, Callable[[Payload], Fields]] = {"text": _text, "template": _template, "reaction": _reaction}
