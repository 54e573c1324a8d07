"""Pydantic models of the bodies of sends, for the OpenAPI document. `messages.request_fields` reads the bodies."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from services.api.messages.request_fields import MAX_CAPTION, MAX_LANGUAGE, MAX_PARTS, MAX_TEMPLATE, MAX_VARIABLE
from services.api.messages.uploads import MAX_FILENAME
from services.api.schemas.base import example
from services.message import MAX_TEXT

#: One of a company's numbers; front-ends write it either way.
AnyPhoneIndex = Annotated[int, Field(ge=0, lt=10**9)] | Annotated[str, Field(pattern="^[0-9]{1,9}$")]

_LINK = "A http(s) link, or a data URL such as `data:image/png;base64,iVBORw0…`."


class _Body(BaseModel):
    phoneIndex: AnyPhoneIndex = Field(
        0, description="Which of the company's numbers sends it; a number, or one as a string."
    )


class _Message(_Body):
    userName: str | None = Field(None, max_length=255, description="Who wrote it; kept in the history.")


class _Reply(_Message):
    quotedMessageId: str | None = Field(
        None, max_length=255, description="The message that this one replies to; any id of it."
    )


class TextMessage(_Reply):
    """A text to send."""

    message: str = Field(min_length=1, max_length=MAX_TEXT, description="The text.")
    mentions: list[str] = Field(
        [], max_length=MAX_PARTS, json_schema_extra=example(["60123456789"]),
        description="People whom the text mentions as `@60123456789`: their numbers. WhatsApp Web bots alone.",
    )  # fmt: skip


class MediaMessage(_Reply):
    """What all messages with a file have in common."""


class _Captioned(MediaMessage):
    caption: str | None = Field(None, max_length=MAX_CAPTION, description="What is said with it.")


class ImageMessage(_Captioned):
    """An image to send."""

    imageUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/photo.jpg"))


class VideoMessage(_Captioned):
    """A video to send."""

    videoUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/clip.mp4"))


class AudioMessage(MediaMessage):
    """Sound to send."""

    audioUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/note.ogg"))
    voice: bool = Field(False, description="As a voice message, with its waveform; OGG with Opus only.")


class DocumentMessage(_Captioned):
    """A document to send."""

    documentUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/invoice.pdf"))
    filename: str | None = Field(
        None, max_length=MAX_FILENAME, description="The name to show; without it, the file's own.",
        json_schema_extra=example("invoice.pdf"),
    )  # fmt: skip


class StickerMessage(MediaMessage):
    """A sticker to send."""

    stickerUrl: str = Field(description=_LINK, json_schema_extra=example("https://example.com/wave.webp"))


class TemplateMessage(_Message):
    """A template to send: what may be sent when the chat's window is closed."""

    templateName: str = Field(
        min_length=1, max_length=MAX_TEMPLATE, description="Its name, as the provider has it.",
        json_schema_extra=example("order_ready"),
    )  # fmt: skip
    language: str = Field(
        min_length=1, max_length=MAX_LANGUAGE, description="Its language's code.", json_schema_extra=example("en_US")
    )
    variables: list[Annotated[str, Field(max_length=MAX_VARIABLE)] | int | float] = Field(
        [], max_length=MAX_PARTS, description="The variables of its body, {{1}} first.",
        json_schema_extra=example(["Aina", "17"]),
    )  # fmt: skip
    components: list[dict[str, Any]] | None = Field(
        None, max_length=MAX_PARTS,
        description="Header, body and buttons in the provider's own form, in place of `variables`.",
    )  # fmt: skip


class ReactionRequest(BaseModel):
    """A reaction to a message, or its end."""

    reaction: str = Field(
        max_length=64,
        description="One emoji; an empty string takes the reaction back.",
        json_schema_extra=example("👍"),
    )
    phoneIndex: AnyPhoneIndex | None = Field(
        None, description="The number that the message belongs to; needed where several messages have the same id."
    )


class ReadRequest(BaseModel):
    """That a message was read."""

    typing: bool = Field(False, description="Show as well that an answer is being typed, for 25 seconds at most.")
    phoneIndex: AnyPhoneIndex | None = Field(None, description="The number that the message came to.")


class EditRequest(BaseModel):
    """A new text for a message."""

    newMessage: str = Field(min_length=1, max_length=MAX_TEXT, json_schema_extra=example("Hello!"))
    phoneIndex: AnyPhoneIndex | None = Field(None, description="The number that the message left by.")


class DeleteRequest(BaseModel):
    """Whose copy of a message is to go."""

    deleteForEveryone: bool = Field(True, description="The other side's as well.")
    phoneIndex: AnyPhoneIndex | None = Field(None, description="The number that the message left by.")


def json_body(shape: type[BaseModel], required: bool = True, **examples: Any) -> dict[str, Any]:
    """The OpenAPI request body of a shape, with examples by name."""
    content = {"schema": shape.model_json_schema(), "examples": {name: {"value": it} for name, it in examples.items()}}
    return {"required": required, "content": {"application/json": content}}


def form_or_json(shape: type[MediaMessage], url_field: str) -> dict[str, Any]:
    """The same as JSON with a link, and as a form with the file."""
    schema = shape.model_json_schema()
    properties = {name: field for name, field in schema["properties"].items() if name != url_field}
    file = {"type": "string", "format": "binary", "description": "The file."}
    form = {"type": "object", "properties": properties | {"file": file}, "required": ["file"]}
    return {
        "required": True,
        "content": {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}},
    }
