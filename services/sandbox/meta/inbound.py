"""What a customer says, as the API's webhooks tell it (Cloud API, "Webhooks reference: messages")."""

import base64
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.sandbox.meta.customers import named
from services.sandbox.meta.graph import new_id
from services.sandbox.meta.media import File
from services.sandbox.meta.store import Inbound, Report
from services.sandbox.meta.webhooks import metadata

_MEDIA = {"image": "image", "video": "video", "audio": "audio"}
_UNSUPPORTED = {
    "code": 131051, "title": "Message type unknown", "message": "Message type unknown",
    "error_data": {"details": "Message type is currently not supported."},
}  # fmt: skip


def _parsed(value: Any) -> Any:
    """JSON where it came as the text of a form."""
    return orjson.loads(value) if isinstance(value, str) else value


Json = Annotated[Any, BeforeValidator(_parsed)]


class CustomerMessage(BaseModel):
    """What a customer says, as it is posted to /_sandbox/say, as JSON or as a form, which may have a `file`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str = Field(min_length=1, description="the number: its phone number id, or its key of 360dialog")
    sender: str = Field("", alias="from", pattern="^[+]?[0-9]*$", description="the customer's number, where it shows")
    user_id: str = Field("", description="the customer's user id, such as US.1349")
    name: str = Field("Sandbox customer", description="the customer's name")
    type: str = Field("", description="the message's type; by default what the rest looks like")
    text: str = Field("", max_length=65536, description="the text, a caption, or the new text of an edit")
    media_id: str = Field("", description="a file that was uploaded before")
    voice: bool = Field(False, description="whether the audio was spoken into the phone")
    reply_to: str = Field("", description="the id of the message that this one answers")
    message_id: str = Field("", description="the message that a reaction, an edit or a revocation is about")
    emoji: str | None = Field(None, description="a reaction; empty: takes it back")
    button: str = Field("", description="the title of a button of ours that was pressed")
    button_id: str = Field("", description="its id")
    content: Json = Field(None, description="the object under the type's name, where none of the above says it")
    echo: bool = Field(False, description="sent by the business with its own phone (smb_message_echoes)")
    timestamp: float | None = Field(None, gt=0, description="seconds since the epoch, by default now")
    milliseconds: bool = Field(False, description="whether the timestamp is in milliseconds")
    no_contacts: bool = Field(False, description="whether `contacts` is missing")
    count: int = Field(1, ge=1, le=10_000, description="so many messages, numbered where there are more than one")
    duplicates: int = Field(0, ge=0, le=100, description="how often each is told again")
    shuffle: bool = Field(False, description="whether they are told in any order")
    together: bool = Field(False, description="whether all are in one value of one change")
    delay_ms: int = Field(0, ge=0, le=3_600_000, description="milliseconds before it is told")
    field: str = Field("messages", description="the field of a change with a `value` of its own")
    value: Json = Field(None, description="the whole value of the change, instead of all this")

    @model_validator(mode="after")
    def _is_whole(self) -> "CustomerMessage":
        if self.value is None and not self.chat:
            raise ValueError("say who speaks: `from`, a number, or `user_id`, as of one who hides it")
        if self.kind in ("reaction", "edit", "revoke") and not self.message_id and not self.content:
            raise ValueError(f"message_id is missing: which message is the {self.kind} about?")
        return self

    @property
    def chat(self) -> str:
        """What the chat is known by: the digits, or the user id where they are hidden."""
        return self.sender.lstrip("+") or self.user_id

    @property
    def kind(self) -> str:
        """The message's type; that of a file is told by the file."""
        if self.type:
            return self.type
        return "reaction" if self.emoji is not None else "interactive" if self.button else "text"


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be remembered and told of a saying."""

    ids: list[str]
    messages: list[Inbound]
    reports: list[Report]


def compose(saying: CustomerMessage, number: str, file: File | None, now: float) -> Said:
    """The messages of a saying to a number, and the webhooks that bring them, due from `now` on."""
    due = now + saying.delay_ms / 1000
    if saying.value is not None:
        return Said([], [], [_report("", number, saying.value, due, saying.field)])
    at = saying.timestamp or now
    messages = [_message(saying, number, file, n, at) for n in range(1, saying.count + 1)]
    heard = [] if saying.echo else [_heard(saying, number, each, at, file) for each in messages]
    told = [each for each in messages for _ in range(1 + saying.duplicates)]
    if saying.shuffle:
        random.shuffle(told)
    return Said([each["id"] for each in messages], heard, list(_reports(saying, number, told, due)))


def _reports(saying: CustomerMessage, number: str, told: list[dict[str, Any]], due: float) -> Iterator[Report]:
    field = "smb_message_echoes" if saying.echo else "messages"
    for group in [told] if saying.together else [[each] for each in told]:
        yield _report(group[0]["id"], number, _value(saying, number, group), due, field)


def _report(wamid: str, number: str, value: dict[str, Any], due: float, field: str) -> Report:
    return Report(wamid, number, "", orjson.dumps(value).decode(), due, field)


def _value(saying: CustomerMessage, number: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {"messaging_product": "whatsapp", "metadata": metadata(number)}
    if not saying.no_contacts and saying.kind != "system":
        value["contacts"] = [{"profile": {"name": saying.name}, **_customer(saying, "wa_id", "user_id")}]
    return value | {"message_echoes" if saying.echo else "messages": messages}


def _heard(saying: CustomerMessage, number: str, message: dict[str, Any], at: float, file: File | None) -> Inbound:
    target = saying.message_id or saying.reply_to or None
    text, media = _readable(saying, message), file.id if file else None
    return Inbound(at, number, saying.chat, message["id"], message["type"], text, target, media)


def _readable(saying: CustomerMessage, message: dict[str, Any]) -> str:
    """What a person reads of it."""
    if saying.content is not None:
        return orjson.dumps(saying.content).decode()
    if message["type"] == "text":
        return str(message["text"]["body"])
    return saying.emoji or saying.text or saying.button


def _message(saying: CustomerMessage, number: str, file: File | None, n: int, at: float) -> dict[str, Any]:
    kind = _kind_of(saying, file)
    text = f"{saying.text} {n}" if saying.count > 1 else saying.text
    found: dict[str, Any] = {
        **_parties(saying, number),
        "id": new_id(),
        "timestamp": str(int(at * 1000) if saying.milliseconds else int(at)),
        "type": kind,
    }
    if saying.reply_to:
        found["context"] = {"from": number, "id": saying.reply_to}
    if kind == "unsupported":
        found["errors"] = [_UNSUPPORTED]
    content = saying.content if saying.content is not None else _content(saying, kind, file, text)
    return found | ({} if content is None else {kind: content})


def _parties(saying: CustomerMessage, number: str) -> dict[str, str]:
    if saying.echo:
        return {"from": number, **_customer(saying, "to", "to_user_id")}
    return _customer(saying, "from", "from_user_id")


def _customer(saying: CustomerMessage, by_number: str, by_user_id: str) -> dict[str, str]:
    given = {by_user_id: saying.user_id} if saying.user_id else {}
    return named(saying.chat, by_number, by_user_id) | given


def _kind_of(saying: CustomerMessage, file: File | None) -> str:
    if saying.type or file is None:
        return saying.kind
    if file.mime_type.startswith("image/webp"):
        return "sticker"
    return _MEDIA.get(file.mime_type.partition("/")[0], "document")


def _content(saying: CustomerMessage, kind: str, file: File | None, text: str) -> dict[str, Any] | None:
    if file is not None:
        return _file(saying, kind, file)
    if kind == "text":
        return {"body": text}
    if kind == "reaction":
        # Taking a reaction back leaves the emoji out.
        return {"message_id": saying.message_id, **({"emoji": saying.emoji} if saying.emoji else {})}
    if kind == "interactive":
        reply = {"id": saying.button_id or saying.button, "title": saying.button}
        return {"type": "button_reply", "button_reply": reply}
    if kind == "button":
        return {"payload": saying.button_id or saying.button, "text": saying.button or text}
    return _about(saying, kind, text)


def _about(saying: CustomerMessage, kind: str, text: str) -> dict[str, Any] | None:
    if kind == "edit":
        edited = {"type": "text", "text": {"body": text}}
        return {"original_message_id": saying.message_id, "message": edited}
    if kind == "revoke":
        return {"original_message_id": saying.message_id}
    if kind == "system":
        return {"type": "user_changed_number", "body": text, "wa_id": saying.sender.lstrip("+")}
    return None


def _file(saying: CustomerMessage, kind: str, file: File) -> dict[str, Any]:
    # Webhooks have the hash in base 64, the API's answers in hexadecimal.
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    found: dict[str, Any] = {"id": file.id, "mime_type": file.mime_type, "sha256": digest}
    if saying.text and kind in ("image", "video", "document"):
        found["caption"] = saying.text
    if kind == "document":
        found["filename"] = file.filename or "document"
    if kind == "audio":
        found["voice"] = saying.voice
    if kind == "sticker":
        found["animated"] = file.animated
    return found


#: What the account-level webhooks say where nothing else was asked for.
NOTICES: dict[str, dict[str, Any]] = {
    "message_template_status_update": {
        "event": "APPROVED", "message_template_id": 594425479261596, "message_template_name": "order_update",
        "message_template_language": "en", "reason": "NONE",
    },
    "account_update": {"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "SPAM"}},
    "phone_number_quality_update": {"event": "THROUGHPUT_UPGRADE", "current_limit": "TIER_UNLIMITED"},
    "business_capability_update": {"max_daily_conversation_per_phone": 1000, "max_phone_numbers_per_business": 2},
    "account_alerts": {
        "entity_type": "WABA", "alert_severity": "WARNING", "alert_status": "ACTIVE", "alert_type": "OBA_APPROVED",
        "alert_description": "The simulator was asked for it.",
    },
    "account_review_update": {"decision": "APPROVED"},
}  # fmt: skip


class Notice(BaseModel):
    """News of an account, as they are posted to /_sandbox/notice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(min_length=1, description=f"any field of the webhooks, such as {', '.join(NOTICES)}")
    account: str = Field("", description="the business account; by default the number's")
    to: str = Field("", description="the number whose webhooks bring it; by default the account's")
    value: dict[str, Any] = Field({}, description="over what is said by default")
    duplicates: Annotated[int, Field(ge=0, le=100)] = 0


def announce(notice: Notice, number: str, account: str) -> list[Report]:
    """The webhooks that bring the news."""
    value = dict(NOTICES.get(notice.field, {}))
    if notice.field in ("phone_number_quality_update", "account_update") and number:
        key = "display_phone_number" if notice.field == "phone_number_quality_update" else "phone_number"
        value[key] = number
    body = orjson.dumps(value | notice.value).decode()
    return [Report("", number, "", body, time.time(), notice.field, account)] * (1 + notice.duplicates)
