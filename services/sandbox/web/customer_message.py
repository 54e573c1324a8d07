"""Messages of customers to a linked number, as they are posted to /_sandbox/wa/say."""

import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.sandbox.control_requests import JsonField
from services.sandbox.web.chats import new_id
from services.sandbox.web.devices import lid_of

_KIND_OF_MEDIA_TYPE = {"image": "image", "video": "video", "audio": "audio"}


class CustomerMessage(BaseModel):
    """The fields, as JSON, or as a form that can have a `file`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str = Field("", pattern="^[0-9]*$", description="the linked number; by default the only one")
    sender: str = Field("60123456789", alias="from", pattern="^[+]?[0-9]+$", description="the customer's number")
    name: str = Field("Sandbox customer", description="the customer's name")
    type: str = Field(
        "", description="reaction, edit, revoke, call, hsm, list, …; by default it follows from the other fields"
    )
    text: str = Field("", max_length=65536, description="the text, a caption, or the new text of an edit")
    voice: bool = Field(False, description="whether the audio is a voice message")
    reply_to: str = Field("", description="the key of the message that this one answers")
    message_id: str = Field("", description="the message to react to, edit or revoke")
    emoji: str | None = Field(None, description="a reaction; empty: removes it")
    button: str = Field("", description="the title of the button that was pressed")
    button_id: str = Field("", description="its id")
    title: str = Field("", description="the title of a business's template (hsm) or list")
    footer: str = Field("", description="its footer")
    options: list[str] = Field([], description="the titles of its buttons or rows")
    content: JsonField = Field(None, description="more attributes of the message")
    chat: str = Field("", description="the chat, such as 60123456789@c.us; by default the customer's own")
    group: str = Field("", pattern="^[0-9-]*$", description="the group of the message: its digits")
    hidden: bool = Field(False, description="whether WhatsApp hides the number: the chat is an @lid")
    number_known: bool = Field(True, description="whether WhatsApp shows the hidden number beside the @lid")
    echo: bool = Field(False, description="sent by the business with its own phone")
    video: bool = Field(False, description="whether a call is a video call")
    timestamp: float | None = Field(None, gt=0, description="seconds since the epoch, by default now")
    count: int = Field(1, ge=1, le=10_000, description="send N messages, numbered if N is more than one")
    duplicates: int = Field(0, ge=0, le=100, description="how often each message is repeated")

    @model_validator(mode="after")
    def _is_whole(self) -> "CustomerMessage":
        if self.kind in ("reaction", "edit", "revoke") and not self.message_id:
            raise ValueError(f"message_id is missing: the message of the {self.kind}")
        return self

    @property
    def kind(self) -> str:
        """The kind of message, before a file is considered."""
        if self.type:
            return self.type
        return "reaction" if self.emoji is not None else "buttons_response" if self.button else "text"

    @property
    def customer(self) -> str:
        """The customer's id on WhatsApp."""
        if self.chat and not self.chat.endswith("@g.us"):
            return self.chat
        digits = self.sender.lstrip("+")
        return lid_of(digits) if self.hidden else f"{digits}@c.us"

    @property
    def shown_number(self) -> str | None:
        """The hidden number, if WhatsApp shows it."""
        return f"{self.sender.lstrip('+')}@c.us" if self.hidden and self.number_known else None

    @property
    def chat_id(self) -> str:
        """The chat's id on WhatsApp."""
        return self.chat or (f"{self.group}@g.us" if self.group else self.customer)


def compose(posted: CustomerMessage, file: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The messages that were posted, if they do not change another message."""
    return [_message(posted, file, n) for n in range(1, posted.count + 1)]


def _message(posted: CustomerMessage, file: dict[str, Any] | None, n: int) -> dict[str, Any]:
    text = f"{posted.text} {n}" if posted.count > 1 else posted.text
    kind = _kind(posted, file)
    author = posted.customer if posted.chat_id.endswith("@g.us") and not posted.echo else None
    key = "_".join(["true" if posted.echo else "false", posted.chat_id, new_id(), *([author] if author else [])])
    return {
        "key": key, "pn": posted.shown_number, "chat": posted.chat_id, "author": author, "type": kind, "media": file,
        "body": posted.button if kind == "buttons_response" else text if kind in ("chat", "hsm") else None,
        "caption": text if file and text else None,
        "t": int(posted.timestamp or time.time()), "name": posted.name, "quoted": posted.reply_to or None,
        "mentions": [], "extra": _card(posted, kind, text) | (posted.content or {}),
    }  # fmt: skip


def _kind(posted: CustomerMessage, file: dict[str, Any] | None) -> str:
    """The type that WhatsApp Web has for this kind of message."""
    if posted.type not in ("", "text", "audio") or file is None:
        return "chat" if posted.kind == "text" else posted.kind
    if file["mimetype"].startswith("image/webp"):
        return "sticker"
    found = _KIND_OF_MEDIA_TYPE.get(file["mimetype"].partition("/")[0], "document")
    return "ptt" if posted.voice and found == "audio" else found


def _card(posted: CustomerMessage, kind: str, text: str) -> dict[str, Any]:
    """The attributes of a pressed button, or of another business's message: a template with buttons, or a list."""
    if kind == "hsm":
        buttons = [
            {"index": n, "quickReplyButton": {"displayText": option, "id": option}}
            for n, option in enumerate(posted.options)
        ]
        return {"title": posted.title, "footer": posted.footer, "hydratedButtons": buttons}
    if kind == "buttons_response":
        return {"selectedButtonId": posted.button_id or posted.button}
    if kind == "list":
        rows = [{"rowId": option, "title": option, "description": ""} for option in posted.options]
        return {"list": {
            "title": posted.title, "description": text, "footerText": posted.footer, "buttonText": "Options",
            "listType": 1, "sections": [{"title": "", "rows": rows}],
        }}  # fmt: skip
    return {}
