"""Pydantic models of requests and answers, as the OpenAPI document shows them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.api.messages import request_fields
from services.api.messages.request_fields import MAX_IDEMPOTENCY_KEY, MAX_WAIT_SECONDS
from services.api.model import Model
from services.message import Status

_ID = "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4"
_TIME = "2025-01-31T08:00:00.125Z"


def example(value: Any) -> dict[str, Any]:
    """The example of a field, for its schema."""
    return {"example": value}


CompanyId = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f]{1,255}$",
        description="The company. Leading zeros are significant.",
        json_schema_extra=example("0128"),
    ),
]
ChatId = Annotated[
    str,
    Field(
        description=(
            "The chat: a phone number in international form (`60123456789`, `+60123456789`, "
            "`60123456789@c.us`), a group (`…@g.us`), a hidden number (`…@lid`), or `<companyId>-<number>`."
        ),
        json_schema_extra=example("60123456789"),
    ),
]
PhoneIndex = Annotated[int, Field(ge=0, lt=10**9, json_schema_extra=example(0))]


class _Shape(Model):
    model_config = ConfigDict(alias_generator=to_camel)


class ChatPath(_Shape):
    """The path of a chat."""

    company_id: CompanyId
    chat_id: ChatId


MessageId = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f]{1,255}$",
        description="The message's ID, ours or the provider's: from the answer to the send, or from an event.",
        json_schema_extra=example(_ID),
    ),
]


class MessagePath(ChatPath):
    """The path of a message in its chat."""

    message_id: MessageId


class TargetPath(_Shape):
    """The path of a message of any chat."""

    company_id: CompanyId
    message_id: MessageId


class PageQuery(_Shape):
    """A page of a chat."""

    cursor: str | None = Field(
        None, max_length=200, description="`nextCursor` of the previous page; without it, the newest messages."
    )
    limit: int = Field(50, ge=1, le=200, description="Maximum number of messages on the page.")
    phone_index: PhoneIndex | None = Field(
        None, description="Only messages of this bot; without it, of all bots of the company."
    )


class SendQuery(Model):
    """How to answer a send."""

    wait: Annotated[float | None, BeforeValidator(request_fields.wait)] = Field(
        None,
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="Seconds to wait for the outcome. Without it, the answer is sent once the message is durable.",
    )


class SendHeaders(Model):
    """Headers of a send."""

    idempotency_key: Annotated[str | None, BeforeValidator(request_fields.idempotency_key)] = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_IDEMPOTENCY_KEY,
        description=(
            "Makes it safe to repeat the request. The same key and content return the first message again; the same "
            "key with another content is refused with 409. Keys belong to a company."
        ),
        json_schema_extra=example("order-1"),
    )


class Hold(Model):
    """Why the message's bot sends nothing at the moment. Its queue is kept."""

    reason: str | None = Field(json_schema_extra=example("network: Failed to connect to graph.facebook.com port 443"))
    needsOperator: bool = Field(description="Whether an operator must act first. `false`: the hold ends by itself.")
    since: str | None = Field(
        description="When the hold, or the provider's outage, began, if that is known.",
        json_schema_extra=example(_TIME),
    )
    until: str | None = Field(description="When the next attempt is made, if that is known.")


class Accepted(Model):
    """A message that is durable, with its current status."""

    success: Literal[True]
    messageId: str = Field(json_schema_extra=example(_ID))
    status: Status
    chatId: str = Field(
        description="The chat ID in its canonical form.",
        json_schema_extra=example("60123456789"),
    )
    providerId: str | None = Field(None, description="The provider's ID, if it is known.")
    hold: Hold | None = Field(None, description="With `?wait=`: why the message is not sent yet.")


class Reason(Model):
    """Why the last attempt failed."""

    code: str | None = Field(
        description="The code; docs/reference/errors.md lists all of them.", json_schema_extra=example("131026")
    )
    reason: str | None = Field(json_schema_extra=example("the recipient cannot receive this message"))


class StatusEntry(Model):
    """A status that a message reached."""

    status: Status
    at: str = Field(description="When, in UTC.", json_schema_extra=example(_TIME))
    attempt: int | None = Field(None, description="The number of the attempt, from 1.")
    code: str | None = Field(None, description="The code of the error, if there was one.")
    reason: str | None = Field(None, description="The reason of the error.")
    pricing: Any = Field(None, description="The price, as the provider reports it.")
    conversation: Any = Field(None, description="The conversation, as the provider reports it.")


class File(Model):
    """A file of a message."""

    url: str | None = Field(
        description="The link that was sent, or our copy; relative if PUBLIC_URL is not set.",
        json_schema_extra=example(f"https://bots.example.com/api/v2/media/0128/{_ID}"),
    )
    mimeType: str | None = Field(json_schema_extra=example("image/jpeg"))
    filename: str | None
    size: int | None = Field(description="Size in bytes, if it is known.")
    sha256: str | None = Field(description="In hex, or as the provider writes it.")
    voice: bool


class Reference(Model):
    """Another message."""

    id: str = Field(description="The provider's ID of the message.", json_schema_extra=example("wamid.HBgL…"))


class Message(Model):
    """A sent or received message, with its whole history."""

    messageId: str = Field(json_schema_extra=example(_ID))
    companyId: str = Field(json_schema_extra=example("0128"))
    chatId: str = Field(json_schema_extra=example("60123456789"))
    phoneIndex: int | None = Field(description="The bot; null if the old system did not store it.")
    direction: Literal["inbound", "outbound"]
    fromMe: bool
    kind: str = Field(description="Its kind, as the provider calls it.", json_schema_extra=example("text"))
    payload: dict[str, Any] = Field(
        description="Sent: the content of the request. Received: the provider's own message, if it says more.",
        json_schema_extra=example({"message": "Hello"}),
    )
    body: str | None = Field(description="The text, caption or title.")
    media: File | None
    reaction: str | None = Field(description="The latest reaction to it.", json_schema_extra=example("👍"))
    edited: bool
    replyTo: Reference | None = Field(description="The message that it replies to.")
    author: str | None = Field(description="Sent: `userName`. Received: the name in the sender's profile.")
    status: str = Field(
        description=f"Sent: {', '.join(Status)}. Received: received. Deleted for everyone: revoked.",
        json_schema_extra=example("delivered"),
    )
    statuses: list[StatusEntry] = Field(description="Every status that it reached, and every attempt to send it.")
    attempts: int = Field(description="Number of finished attempts to send it.")
    error: Reason | None = Field(description="Why the last attempt failed, if it did.")
    hold: Hold | None = Field(description="Why it is not sent yet, if its bot is held.")
    providerId: str | None = Field(description="The provider's ID, once the provider has accepted the message.")
    requestId: str | None = Field(
        description="The `X-Request-Id` of the answer to the request that it came with.",
        json_schema_extra=example("5f0c2a91be03d7a4-1f"),
    )
    timestamp: str | None = Field(
        description="Sent: when it was accepted. Received: when its sender sent it.", json_schema_extra=example(_TIME)
    )
    updatedAt: str | None = Field(json_schema_extra=example(_TIME))


class OneMessage(Message):
    """A message."""

    success: Literal[True]


class ReplyWindow(Model):
    """The 24 hours after the last message of the chat's other side. After that, only templates may be sent."""

    open: bool
    expiresAt: str | None = Field(description="When it ends, in UTC; null if the other side never wrote.")


class MessagePage(Model):
    """Messages of a chat, newest first."""

    success: Literal[True]
    messages: list[Message]
    nextCursor: str | None = Field(description="`cursor` of the next page; null on the last page.")
    window: ReplyWindow | None = Field(description="Null if no bot of the chat has such a window.")


class Alive(Model):
    """The process answers."""

    success: Literal[True]
    status: str = Field(json_schema_extra=example("ok"))
    process: str = Field(json_schema_extra=example("api"))
    uptime: int = Field(description="Seconds since the process started.")


class ProcessHealth(Model):
    """The health of a program, all its instances together."""

    processName: str = Field(json_schema_extra=example("meta"))
    status: Literal["healthy", "degraded", "stopped", "down"]
    uptime: int = Field(description="Seconds, of the oldest instance.")
    memory: float = Field(description="MB, of all instances together.")
    activeBots: int


Source = Literal["database", "local"]


class AllHealth(Model):
    """The health of all programs."""

    success: Literal[True]
    processes: list[ProcessHealth]
    source: Source = Field(
        description="`local`: from this machine's heartbeat files, because the database did not answer in time."
    )


class ProcessPath(Model):
    """The path of a program."""

    process: str = Field(description="The name of the program.", json_schema_extra=example("meta"))


class Metrics(ProcessHealth):
    """Figures of a program, all its instances together. Counters survive restarts."""

    success: Literal[True]
    cpu: float = Field(description="Percent of one processor, of all instances together.")
    activeConnections: int = Field(
        description="Open now: of clients, and of a channel to its provider; a connected session counts as one."
    )
    messagesProcessed: int = Field(description="The API: accepted messages. A channel: messages and webhooks.")
    messagesSent: int = Field(description="The API: accepted messages. A channel: messages that its provider accepted.")
    messagesReceived: int = Field(description="Messages from people.")
    errors: int
    averageResponseTime: float | None = Field(
        description="Milliseconds in the last minute, of the program's answers or of its provider's; null: there was "
        "none."
    )
    source: Source
