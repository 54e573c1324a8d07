"""Pydantic models of the bodies of sends, for the OpenAPI document.

`services.api.messages.request_fields` reads the bodies; a property test compares the two.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from services.api.messages.request_fields import (
    MAX_LANGUAGE,
    MAX_PARTS,
    MAX_REACTION,
    MAX_SHORT,
    MAX_TEMPLATE,
    MAX_VARIABLE,
)
from services.api.model import Model
from services.api.schemas.base import example
from services.connectors.limits import MAX_CAPTION
from services.message import MAX_TEXT

#: The index of a company's bot. Front-ends send it as a number or as a string.
AnyPhoneIndex = Annotated[int, Field(ge=0, lt=10**9)] | Annotated[str, Field(pattern="^[0-9]{1,9}$")]

_LINK = "A http(s) link, or a data URL such as `data:image/png;base64,iVBORw0…`."


class _Exact(Model):
    model_config = ConfigDict(extra="forbid")


class _Body(_Exact):
    phoneIndex: AnyPhoneIndex = Field(
        0, description="The index of the bot that sends the message; a number, or a string of digits."
    )


class _Message(_Body):
    userName: str | None = Field(
        None, max_length=MAX_SHORT, description="The person who wrote the message; stored with the history."
    )


class _Reply(_Message):
    quotedMessageId: str | None = Field(
        None, max_length=MAX_SHORT, description="The message that this one replies to: any ID of it."
    )


class TextMessage(_Reply):
    """A text to send."""

    message: str = Field(min_length=1, max_length=MAX_TEXT, description="The text.")
    mentions: list[str] | None = Field(
        [], max_length=MAX_PARTS, json_schema_extra=example(["60123456789"]),
        description="The phone numbers of the people whom the text mentions as `@60123456789`. WhatsApp Web bots only.",
    )  # fmt: skip


class MediaMessage(_Reply):
    """The fields of every message with a file."""


class _Captioned(MediaMessage):
    caption: str | None = Field(None, max_length=MAX_CAPTION, description="The caption of the file.")


class ImageMessage(_Captioned):
    """An image to send."""

    imageUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/photo.jpg"))


class VideoMessage(_Captioned):
    """A video to send."""

    videoUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/clip.mp4"))


class AudioMessage(MediaMessage):
    """An audio file to send."""

    caption: str | None = Field(
        None,
        max_length=MAX_CAPTION,
        description="No channel sends audio with a caption: only an empty one is accepted.",
    )
    audioUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/note.ogg"))
    voice: bool = Field(False, description="Send it as a voice message, with its waveform; OGG with Opus only.")


class DocumentMessage(_Captioned):
    """A document to send."""

    documentUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/invoice.pdf"))
    filename: str | None = Field(
        None, max_length=MAX_SHORT, description="The name that the recipient sees; by default the file's own name.",
        json_schema_extra=example("invoice.pdf"),
    )  # fmt: skip


class StickerMessage(MediaMessage):
    """A sticker to send."""

    stickerUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/wave.webp"))


class TemplateMessage(_Message):
    """A template to send. Templates may also be sent after the chat's window of 24 hours has closed."""

    templateName: str = Field(
        min_length=1, max_length=MAX_TEMPLATE, description="Its name at the provider.",
        json_schema_extra=example("order_ready"),
    )  # fmt: skip
    language: str = Field(
        min_length=1, max_length=MAX_LANGUAGE, description="The code of its language.",
        json_schema_extra=example("en_US"),
    )  # fmt: skip
    variables: list[Annotated[str, Field(max_length=MAX_VARIABLE)] | int | float | None] | None = Field(
        [], max_length=MAX_PARTS, description="The variables of its body, {{1}} first.",
        json_schema_extra=example(["Aina", "17"]),
    )  # fmt: skip
    components: list[dict[str, Any]] | None = Field(
        None, max_length=MAX_PARTS,
        description="Header, body and buttons in the provider's own form, instead of `variables`.",
    )  # fmt: skip


class ReactionRequest(_Exact):
    """A reaction to a message, or its removal."""

    reaction: str = Field(
        max_length=MAX_REACTION,
        description="One emoji; an empty string removes the reaction.",
        json_schema_extra=example("👍"),
    )
    phoneIndex: AnyPhoneIndex | None = Field(
        None, description="The bot of the message; needed only if messages of several bots have the same ID."
    )


class ReadRequest(_Exact):
    """Marks a message as read."""

    typing: bool = Field(False, description="Also show that an answer is being typed, for up to 25 seconds.")
    phoneIndex: AnyPhoneIndex | None = Field(None, description="The bot that received the message.")


class EditRequest(_Exact):
    """A new text for a message."""

    newMessage: str = Field(min_length=1, max_length=MAX_TEXT, json_schema_extra=example("Hello!"))
    phoneIndex: AnyPhoneIndex | None = Field(None, description="The bot that sent the message.")


class DeleteRequest(_Exact):
    """How to delete a message."""

    deleteForEveryone: bool = Field(True, description="`false`: only on the bot's own devices.")
    phoneIndex: AnyPhoneIndex | None = Field(None, description="The bot that sent the message.")


def json_body(model: type[BaseModel], required: bool = True, **examples: Any) -> dict[str, Any]:
    """The OpenAPI request body of a model, with examples by name."""
    content = {"schema": model.model_json_schema(), "examples": {name: {"value": it} for name, it in examples.items()}}
    return {"required": required, "content": {"application/json": content}}


def form_or_json(model: type[MediaMessage], url_field: str) -> dict[str, Any]:
    """The OpenAPI request body of a message with a file: JSON with a link, or a form with the file."""
    schema = model.model_json_schema()
    properties = {name: field for name, field in schema["properties"].items() if name != url_field}
    file = {"type": "string", "format": "binary", "description": "The file."}
    form = {"type": "object", "properties": properties | {"file": file}, "required": ["file"]}
    return {
        "required": True,
        "content": {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}},
    }
