"""The bodies of the requests that send: one function a kind of message (Cloud API reference, "Messages")."""

from collections.abc import Callable
from typing import Any

import orjson

from services.message import (
    Outgoing,
    Payload,
    ReactionPayload,
    ReadPayload,
    TemplatePayload,
    TextPayload,
    is_user_id,
)

Fields = dict[str, Any]

#: The kinds that carry a file.
MEDIA_KINDS = frozenset({"image", "video", "audio", "document", "sticker"})


def body(message: Outgoing, file: dict[str, str] | None = None) -> bytes:
    """The JSON that sends the message. `file` is how its file is named: {"id": …} or {"link": …}.

    Raises KeyError for a kind that is not known or a payload that lacks what its kind needs.
    """
    if message.kind == "read":
        return orjson.dumps(_read(message.payload))
    fields = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "recipient" if is_user_id(message.chat_id) else "to": _recipient(message.chat_id),
        "type": message.kind,
        message.kind: _media(message, file) if file else _CONTENTS[message.kind](message.payload),
        # Given back in every status report: what reconciles a send whose answer was lost.
        "biz_opaque_callback_data": message.message_id,
    }
    if message.kind != "reaction" and (quoted := message.payload.get("quoted_provider_id")):
        fields["context"] = {"message_id": quoted}
    return orjson.dumps(fields)


def _recipient(chat_id: str) -> str:
    """Without the plus Meta would put the country code of the sending number in front."""
    return chat_id if is_user_id(chat_id) else f"+{chat_id}"


def _text(payload: TextPayload) -> Fields:
    return {"body": payload["message"], "preview_url": True}


def _media(message: Outgoing, file: dict[str, str]) -> Fields:
    payload = message.payload
    fields: Fields = dict(file)
    if caption := payload.get("caption"):
        fields["caption"] = caption
    if message.kind == "document" and (filename := payload.get("filename") or payload["media"].get("filename")):
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
