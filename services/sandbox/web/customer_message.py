"""What a customer says to a linked number, as it is posted to /_sandbox/wa/say."""

import time
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.sandbox.web.chats import new_id
from services.sandbox.web.devices import lid_of

_MEDIA = {"image": "image", "video": "video", "audio": "audio"}


def _parsed(value: Any) -> Any:
    """JSON where it came as the text of a form."""
    return orjson.loads(value) if isinstance(value, str) else value


class CustomerMessage(BaseModel):
    """The fields, as JSON or as a form, which may have a `file`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str = Field("", pattern="^[0-9]*$", description="the linked number; by default the only one")
    sender: str = Field("60123456789", alias="from", pattern="^[+]?[0-9]+$", description="the customer's number")
    name: str = Field("Sandbox customer", description="the customer's name")
    type: str = Field("", description="reaction, edit, revoke, call, …; by default what the rest looks like")
    text: str = Field("", max_length=65536, description="the text, a caption, or the new text of an edit")
    voice: bool = Field(False, description="whether the audio was spoken into the phone")
    reply_to: str = Field("", description="the key of the message that this one answers")
    message_id: str = Field("", description="the message that a reaction, an edit or a revocation is about")
    emoji: str | None = Field(None, description="a reaction; empty: takes it back")
    content: Annotated[Any, BeforeValidator(_parsed)] = Field(None, description="more attributes of the message")
    chat: str = Field("", description="where it is said, such as 60123456789@c.us; by default the customer's chat")
    group: str = Field("", pattern="^[0-9-]*$", description="the group in which it is said: its digits")
    hidden: bool = Field(False, description="whether WhatsApp hides the number: the chat is an @lid")
    number_known: bool = Field(True, description="whether WhatsApp tells the number that it hides")
    echo: bool = Field(False, description="said by the business with its own phone")
    video: bool = Field(False, description="whether a call is a video call")
    timestamp: float | None = Field(None, gt=0, description="seconds since the epoch, by default now")
    count: int = Field(1, ge=1, le=10_000, description="so many messages, numbered where there are more than one")
    duplicates: int = Field(0, ge=0, le=100, description="how often each is told again")

    @model_validator(mode="after")
    def _is_whole(self) -> "CustomerMessage":
        if self.kind in ("reaction", "edit", "revoke") and not self.message_id:
            raise ValueError(f"message_id is missing: which message is the {self.kind} about?")
        return self

    @property
    def kind(self) -> str:
        """What it is; that of a file is told by the file."""
        return self.type or ("reaction" if self.emoji is not None else "text")

    @property
    def customer(self) -> str:
        """Who speaks, as WhatsApp has it."""
        if self.chat and not self.chat.endswith("@g.us"):
            return self.chat
        digits = self.sender.lstrip("+")
        return lid_of(digits) if self.hidden else f"{digits}@c.us"

    @property
    def pn(self) -> str | None:
        """The number behind a hidden one, where WhatsApp tells it."""
        return f"{self.sender.lstrip('+')}@c.us" if self.hidden and self.number_known else None

    @property
    def place(self) -> str:
        """The chat in which it is said."""
        return self.chat or (f"{self.group}@g.us" if self.group else self.customer)


def compose(saying: CustomerMessage, file: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The messages of a saying that is none about another message."""
    return [_message(saying, file, n) for n in range(1, saying.count + 1)]


def _message(saying: CustomerMessage, file: dict[str, Any] | None, n: int) -> dict[str, Any]:
    text = f"{saying.text} {n}" if saying.count > 1 else saying.text
    kind = _kind(saying, file)
    author = saying.customer if saying.place.endswith("@g.us") and not saying.echo else None
    key = "_".join(["true" if saying.echo else "false", saying.place, new_id(), *([author] if author else [])])
    return {
        "key": key, "pn": saying.pn, "chat": saying.place, "author": author, "type": kind, "media": file,
        "body": text if kind == "chat" else None, "caption": text if file and text else None,
        "t": int(saying.timestamp or time.time()), "name": saying.name, "quoted": saying.reply_to or None,
        "mentions": [], "extra": saying.content or {},
    }  # fmt: skip


def _kind(saying: CustomerMessage, file: dict[str, Any] | None) -> str:
    """The type of WhatsApp Web."""
    if saying.type not in ("", "text", "audio") or file is None:
        return "chat" if saying.kind == "text" else saying.kind
    if file["mimetype"].startswith("image/webp"):
        return "sticker"
    found = _MEDIA.get(file["mimetype"].partition("/")[0], "document")
    return "ptt" if saying.voice and found == "audio" else found
