"""Messages of customers, as webhooks deliver them (Cloud API, "Webhooks reference: messages")."""

import base64
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.sandbox.control_requests import JsonField
from services.sandbox.meta.customers import customer_fields
from services.sandbox.meta.graph import new_id
from services.sandbox.meta.media import File
from services.sandbox.meta.store import InboundMessage, WebhookUpdate

_KIND_OF_MEDIA_TYPE = {"image": "image", "video": "video", "audio": "audio"}
_UNSUPPORTED = {
    "code": 131051, "title": "Message type unknown", "message": "Message type unknown",
    "error_data": {"details": "Message type is currently not supported."},
}  # fmt: skip


class CustomerMessage(BaseModel):
    """A message of a customer, as it is posted to /_sandbox/say: JSON, or a form that can have a `file`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str = Field(min_length=1, description="the number: its phone number id, or its key of 360dialog")
    sender: str = Field(
        "", alias="from", pattern="^[+]?[0-9]*$", description="the customer's number, unless it is hidden"
    )
    user_id: str = Field("", description="the customer's user id, such as US.1349")
    name: str = Field("Sandbox customer", description="the customer's name")
    type: str = Field("", description="the message's type; by default it follows from the other fields")
    text: str = Field("", max_length=65536, description="the text, a caption, or the new text of an edit")
    media_id: str = Field("", description="a file that was uploaded before")
    voice: bool = Field(False, description="whether the audio is a voice message")
    reply_to: str = Field("", description="the id of the message that this one answers")
    message_id: str = Field("", description="the message to react to, edit or revoke")
    emoji: str | None = Field(None, description="a reaction; empty: removes it")
    button: str = Field("", description="the title of the button that was pressed")
    button_id: str = Field("", description="its id")
    content: JsonField = Field(None, description="the object under the type's name, instead of the fields above")
    echo: bool = Field(False, description="sent by the business with its own phone (smb_message_echoes)")
    timestamp: float | None = Field(None, gt=0, description="seconds since the epoch, by default now")
    milliseconds: bool = Field(False, description="whether the timestamp is in milliseconds")
    no_contacts: bool = Field(False, description="whether `contacts` is missing")
    group_id: str = Field("", description="the group in which the customer writes")
    forwarded: bool = Field(False, description="whether the customer forwarded the message")
    count: int = Field(1, ge=1, le=10_000, description="send N messages, numbered if N is more than one")
    duplicates: int = Field(0, ge=0, le=100, description="how often each message is repeated")
    shuffle: bool = Field(False, description="whether the messages arrive in random order")
    together: bool = Field(False, description="whether one value of one change holds all messages")
    delay_ms: int = Field(0, ge=0, le=3_600_000, description="milliseconds before delivery")
    field: str = Field(
        "messages", description="the field of the change: standby, history, …, or that of a `value` of its own"
    )
    value: JsonField = Field(None, description="the whole value of the change, instead of all fields above")

    @model_validator(mode="after")
    def _is_whole(self) -> "CustomerMessage":
        if self.value is None and not self.chat:
            raise ValueError("the customer is missing: give `from`, a number, or `user_id` if the number is hidden")
        if self.kind in ("reaction", "edit", "revoke") and not self.message_id and not self.content:
            raise ValueError(f"message_id is missing: the message of the {self.kind}")
        return self

    @property
    def chat(self) -> str:
        """The chat: the digits, or the user id if they are hidden."""
        return self.sender.lstrip("+") or self.user_id

    @property
    def kind(self) -> str:
        """The message's type, before a file is considered."""
        if self.type:
            return self.type
        return "reaction" if self.emoji is not None else "interactive" if self.button else "text"


@dataclass(frozen=True, slots=True)
class ComposedMessages:
    """The messages to store, and the updates that deliver them."""

    ids: list[str]
    messages: list[InboundMessage]
    updates: list[WebhookUpdate]


def compose(
    posted: CustomerMessage, metadata: Mapping[str, str], file: File | None, now: float
) -> ComposedMessages:  # fmt: skip
    """The messages to a number that were posted, and the updates that deliver them. `metadata`: the number's."""
    due, number = now + posted.delay_ms / 1000, metadata["phone_number_id"]
    if posted.value is not None:
        stored = list(_stored_of(posted.value, number, now))
        return ComposedMessages([], stored, [_update("", number, posted.value, due, posted.field)])
    at = posted.timestamp or now
    messages = [_message(posted, metadata, file, n, at) for n in range(1, posted.count + 1)]
    stored = [_inbound(posted, number, message, at, file) for message in messages]
    delivered = [message for message in messages for _ in range(1 + posted.duplicates)]
    if posted.shuffle:
        random.shuffle(delivered)
    ids = [message["id"] for message in messages]
    return ComposedMessages(ids, stored, list(_updates(posted, metadata, delivered, due)))


def _updates(
    posted: CustomerMessage, metadata: Mapping[str, str], messages: list[dict[str, Any]], due: float
) -> Iterator[WebhookUpdate]:
    field = "smb_message_echoes" if posted.echo and posted.field == "messages" else posted.field
    for group in [messages] if posted.together else [[message] for message in messages]:
        yield _update(group[0]["id"], metadata["phone_number_id"], _value(posted, metadata, group), due, field)


def _update(wamid: str, number: str, value: dict[str, Any], due: float, field: str) -> WebhookUpdate:
    return WebhookUpdate(wamid, number, "", orjson.dumps(value).decode(), due, field)


def _value(posted: CustomerMessage, metadata: Mapping[str, str], messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {"messaging_product": "whatsapp", "metadata": metadata}
    if not posted.no_contacts and posted.kind != "system" and posted.field != "history":
        value["contacts"] = [{"profile": {"name": posted.name}, **_customer(posted, "wa_id", "user_id")}]
    return value | {"message_echoes" if posted.echo and posted.field != "history" else "messages": messages}


def _inbound(
    posted: CustomerMessage, number: str, message: dict[str, Any], at: float, file: File | None
) -> InboundMessage:
    target = posted.message_id or posted.reply_to or None
    text, media, chat = _readable(posted, message), file.id if file else None, posted.group_id or posted.chat
    return InboundMessage(at, number, chat, message["id"], message["type"], text, target, media, posted.echo)


def _stored_of(value: Any, number: str, at: float) -> Iterator[InboundMessage]:
    """The messages in a value of its own, so that they can be quoted and marked as read."""
    for name, echo in (("messages", False), ("message_echoes", True)):
        messages = value.get(name) if isinstance(value, dict) else None
        for message in messages if isinstance(messages, list) else []:
            if isinstance(message, dict) and isinstance(message.get("id"), str):
                chat = message.get("group_id") or message.get("to" if echo else "from") or message.get("from_user_id")
                text = orjson.dumps(message.get(str(message.get("type")))).decode()
                kind = str(message.get("type", ""))
                yield InboundMessage(at, number, str(chat or ""), message["id"], kind, text, echo=echo)


def _readable(posted: CustomerMessage, message: dict[str, Any]) -> str:
    """The readable part of a message."""
    if posted.content is not None:
        return orjson.dumps(posted.content).decode()
    if message["type"] == "text":
        return str(message["text"]["body"])
    return posted.emoji or posted.text or posted.button


def _message(
    posted: CustomerMessage, metadata: Mapping[str, str], file: File | None, n: int, at: float
) -> dict[str, Any]:  # fmt: skip
    kind = _kind_of(posted, file)
    text = f"{posted.text} {n}" if posted.count > 1 else posted.text
    found: dict[str, Any] = {
        **_parties(posted, metadata["display_phone_number"]),
        "id": new_id(),
        "timestamp": str(int(at * 1000) if posted.milliseconds else int(at)),
        "type": kind,
    }
    if posted.reply_to:
        found["context"] = {"from": metadata["display_phone_number"], "id": posted.reply_to}
    if posted.forwarded:
        found["context"] = {"forwarded": True}
    if posted.group_id:
        found["group_id"] = posted.group_id
    if kind == "unsupported":
        found["errors"] = [_UNSUPPORTED]
    content = posted.content if posted.content is not None else _content(posted, kind, file, text)
    return found | ({} if content is None else {kind: content})


def _parties(posted: CustomerMessage, number: str) -> dict[str, str]:
    if posted.echo:
        return {"from": number, **_customer(posted, "to", "to_user_id")}
    return _customer(posted, "from", "from_user_id")


def _customer(posted: CustomerMessage, number_key: str, user_id_key: str) -> dict[str, str]:
    given = {user_id_key: posted.user_id} if posted.user_id else {}
    return customer_fields(posted.chat, number_key, user_id_key) | given


def _kind_of(posted: CustomerMessage, file: File | None) -> str:
    if posted.type or file is None:
        return posted.kind
    if file.mime_type.startswith("image/webp"):
        return "sticker"
    return _KIND_OF_MEDIA_TYPE.get(file.mime_type.partition("/")[0], "document")


def _content(posted: CustomerMessage, kind: str, file: File | None, text: str) -> dict[str, Any] | None:
    if file is not None:
        return _file(posted, kind, file)
    if kind == "text":
        return {"body": text}
    if kind == "reaction":
        # A removed reaction has no emoji.
        return {"message_id": posted.message_id, **({"emoji": posted.emoji} if posted.emoji else {})}
    if kind == "interactive":
        reply = {"id": posted.button_id or posted.button, "title": posted.button}
        return {"type": "button_reply", "button_reply": reply}
    if kind == "button":
        return {"payload": posted.button_id or posted.button, "text": posted.button or text}
    return _modifier_content(posted, kind, text)


def _modifier_content(posted: CustomerMessage, kind: str, text: str) -> dict[str, Any] | None:
    if kind == "edit":
        edited = {"type": "text", "text": {"body": text}}
        return {"original_message_id": posted.message_id, "message": edited}
    if kind == "revoke":
        return {"original_message_id": posted.message_id}
    if kind == "system":
        return {"type": "user_changed_number", "body": text, "wa_id": posted.sender.lstrip("+")}
    return None


def _file(posted: CustomerMessage, kind: str, file: File) -> dict[str, Any]:
    # The hash is in base 64 in webhooks, but in hexadecimal in the API's answers.
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    found: dict[str, Any] = {"id": file.id, "mime_type": file.mime_type, "sha256": digest}
    if posted.text and kind in ("image", "video", "document"):
        found["caption"] = posted.text
    if kind == "document":
        found["filename"] = file.filename or "document"
    if kind == "audio":
        found["voice"] = posted.voice
    if kind == "sticker":
        found["animated"] = file.animated
    return found


#: Default values of account-level webhooks, by field.
DEFAULT_NOTICES: dict[str, dict[str, Any]] = {
    "message_template_status_update": {
        "event": "APPROVED", "message_template_id": 594425479261596, "message_template_name": "order_update",
        "message_template_language": "en", "reason": "NONE",
    },
    "account_update": {"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "SPAM"}},
    "phone_number_quality_update": {"event": "THROUGHPUT_UPGRADE", "current_limit": "TIER_UNLIMITED"},
    "business_capability_update": {"max_daily_conversation_per_phone": 1000, "max_phone_numbers_per_business": 2},
    "account_alerts": {
        "entity_type": "WABA", "alert_severity": "WARNING", "alert_status": "ACTIVE", "alert_type": "OBA_APPROVED",
        "alert_description": "Requested through /_sandbox/notice.",
    },
    "account_review_update": {"decision": "APPROVED"},
}  # fmt: skip


class Notice(BaseModel):
    """An account-level webhook, as it is posted to /_sandbox/notice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(min_length=1, description=f"any field of the webhooks, such as {', '.join(DEFAULT_NOTICES)}")
    account: str = Field("", description="the business account; by default the number's")
    to: str = Field("", description="the number whose receiver gets the webhook; by default the account's")
    value: dict[str, Any] = Field({}, description="overrides the field's default value")
    duplicates: Annotated[int, Field(ge=0, le=100)] = 0


def notice_updates(notice: Notice, number: str, phone_number: str, account: str) -> list[WebhookUpdate]:
    """The updates that deliver a notice. `phone_number`: the digits of the number, if it names one."""
    value = dict(DEFAULT_NOTICES.get(notice.field, {}))
    if notice.field in ("phone_number_quality_update", "account_update") and number:
        key = "display_phone_number" if notice.field == "phone_number_quality_update" else "phone_number"
        value[key] = phone_number
    body = orjson.dumps(value | notice.value).decode()
    return [WebhookUpdate("", number, "", body, time.time(), notice.field, account)] * (1 + notice.duplicates)
