"""The shapes of requests and answers, as the OpenAPI document shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.message import Status

_ID = "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4"
_TIME = "2025-01-31T08:00:00.125Z"


def example(value: Any) -> dict[str, Any]:
    """What a field's schema says beside its type."""
    return {"example": value}


CompanyId = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f]{1,255}$",
        description="The company; leading zeros matter.",
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


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ChatPath(_Shape):
    """Where a chat is."""

    company_id: CompanyId
    chat_id: ChatId


MessageId = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f]{1,255}$",
        description="The message's id: from the answer to the send, from an event, or the provider's.",
        json_schema_extra=example(_ID),
    ),
]


class MessagePath(ChatPath):
    """Where a message is."""

    message_id: MessageId


class TargetPath(_Shape):
    """A message, wherever it is."""

    company_id: CompanyId
    message_id: MessageId


class PageQuery(_Shape):
    """Which messages of a chat."""

    cursor: str | None = Field(
        None, max_length=200, description="`nextCursor` of the page before; without it, the newest messages."
    )
    limit: int = Field(50, ge=1, le=200, description="Messages on a page, at most.")
    phone_index: PhoneIndex | None = Field(
        None, description="Only those of this number; without it, of all the company's."
    )


class SendQuery(BaseModel):
    """How to answer a send."""

    wait: float | None = Field(
        None,
        ge=0,
        le=30,
        description="Seconds to wait for the outcome; without it the answer comes once it is durable.",
    )


class SendHeaders(BaseModel):
    """Headers of a send."""

    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description=(
            "Makes repeating the request harmless: the same key of the same company gives the first message "
            "again, and another request under it is refused with 409."
        ),
        json_schema_extra=example("order-1"),
    )


class Hold(BaseModel):
    """Why a message's number sends nothing just now; its queue is kept."""

    reason: str | None = Field(json_schema_extra=example("network: Failed to connect to graph.facebook.com port 443"))
    needsOperator: bool = Field(description="Whether an operator must act first; `false`: it goes on by itself.")
    since: str | None = Field(
        description="Since when the provider cannot be reached, or serves nobody; null: that is not the reason.",
        json_schema_extra=example(_TIME),
    )
    until: str | None = Field(description="When the next attempt is made, as far as it is known.")


class Accepted(BaseModel):
    """A message that is durable, with its status so far."""

    success: Literal[True]
    messageId: str = Field(json_schema_extra=example(_ID))
    status: Status
    chatId: str = Field(
        description="The chat in the one form under which it is known.",
        json_schema_extra=example("60123456789"),
    )
    providerId: str | None = Field(None, description="The provider's id, where it is known already.")
    hold: Hold | None = Field(None, description="With `?wait=`: why it does not leave.")


class Reason(BaseModel):
    """Why the last attempt did not succeed."""

    code: str | None = Field(description="The provider's code.", json_schema_extra=example("131026"))
    reason: str | None = Field(json_schema_extra=example("the recipient cannot receive this message"))


class StatusEntry(BaseModel):
    """A status that a message reached."""

    status: Status
    at: str = Field(description="When, in UTC.", json_schema_extra=example(_TIME))
    attempt: int | None = Field(None, description="The attempt that led to it, from 1.")
    code: str | None = Field(None, description="The provider's code, where it went wrong.")
    reason: str | None = Field(None, description="What went wrong.")
    pricing: Any = Field(None, description="What the provider says of the price.")
    conversation: Any = Field(None, description="What the provider says of the conversation.")


class File(BaseModel):
    """A file of a message."""

    url: str | None = Field(
        description="The link that was given, or our own copy; relative where PUBLIC_URL is not set.",
        json_schema_extra=example(f"https://bots.example.com/api/v2/media/0128/{_ID}"),
    )
    mimeType: str | None = Field(json_schema_extra=example("image/jpeg"))
    filename: str | None
    size: int | None = Field(description="Bytes, where they are known.")
    sha256: str | None = Field(description="As it is known: in hex, or as the provider writes it.")
    voice: bool


class Reference(BaseModel):
    """Another message."""

    id: str = Field(description="The provider's id of it.", json_schema_extra=example("wamid.HBgL…"))


class Message(BaseModel):
    """A message of either direction and its whole life."""

    messageId: str = Field(json_schema_extra=example(_ID))
    companyId: str = Field(json_schema_extra=example("0128"))
    chatId: str = Field(json_schema_extra=example("60123456789"))
    phoneIndex: int | None = Field(description="The company's number; null where the old system did not say.")
    direction: Literal["inbound", "outbound"]
    fromMe: bool
    kind: str = Field(description="What it is; as the provider calls it.", json_schema_extra=example("text"))
    payload: dict[str, Any] = Field(
        description="Ours: what was asked to be sent. Theirs: the message as the provider has it, if that says more.",
        json_schema_extra=example({"message": "Hello"}),
    )
    body: str | None = Field(description="What a person reads: text, caption, title.")
    media: File | None
    reaction: str | None = Field(description="The latest reaction to it.", json_schema_extra=example("👍"))
    edited: bool
    replyTo: Reference | None = Field(description="The message that it replies to.")
    author: str | None = Field(description="Ours: `userName`. Theirs: the name in their profile.")
    status: str = Field(
        description=f"Ours: {', '.join(Status)}. Theirs: received, or revoked.", json_schema_extra=example("delivered")
    )
    statuses: list[StatusEntry] = Field(description="Every status that it reached, and every attempt.")
    attempts: int = Field(description="Finished attempts to send it.")
    error: Reason | None = Field(description="Why the last attempt did not succeed, if it did not.")
    hold: Hold | None = Field(description="Why it does not leave, while something holds its number.")
    providerId: str | None = Field(description="The provider's id, once it has the message.")
    timestamp: str | None = Field(
        description="Ours: when it was accepted. Theirs: when it was sent.", json_schema_extra=example(_TIME)
    )
    updatedAt: str | None = Field(json_schema_extra=example(_TIME))


class OneMessage(Message):
    """A message."""

    success: Literal[True]


class ReplyWindow(BaseModel):
    """The 24 hours after the other side wrote: while they last anything may be sent, afterwards templates alone."""

    open: bool
    expiresAt: str | None = Field(description="When, in UTC; null where they never wrote.")


class MessagePage(BaseModel):
    """Messages of a chat, newest first."""

    success: Literal[True]
    messages: list[Message]
    nextCursor: str | None = Field(description="Ask with it for the next page; null on the last.")
    window: ReplyWindow | None = Field(description="Null for numbers whose channel has none.")


class Alive(BaseModel):
    """The process lives."""

    success: Literal[True]
    status: str = Field(json_schema_extra=example("ok"))
    process: str = Field(json_schema_extra=example("api"))
    uptime: int = Field(description="Seconds.")


class ProcessHealth(BaseModel):
    """How a process is, all its instances together."""

    processName: str = Field(json_schema_extra=example("meta"))
    status: Literal["healthy", "degraded", "stopped", "down"]
    uptime: int = Field(description="Seconds, of the oldest instance.")
    memory: float = Field(description="MB, of all instances.")
    activeBots: int


Source = Literal["database", "local"]


class AllHealth(BaseModel):
    """How all processes are."""

    success: Literal[True]
    processes: list[ProcessHealth]
    source: Source = Field(
        description="`local`: from the files on this machine, because the database did not answer in time."
    )


class ProcessPath(BaseModel):
    """A process."""

    process: str = Field(description="Its name.", json_schema_extra=example("meta"))


class Metrics(ProcessHealth):
    """What a process has done since it started."""

    success: Literal[True]
    cpu: float = Field(description="Percent of one processor, of all instances.")
    messagesProcessed: int = Field(description="Messages that the API accepted; messages and webhooks of a channel.")
    errors: int
    source: Source
