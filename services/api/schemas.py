"""The shapes of requests and answers, as the OpenAPI document shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.message import MAX_TEXT, Status

_ID = "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4"
_TIME = "2025-01-31T08:00:00.125Z"


def _example(value: Any) -> dict[str, Any]:
    return {"example": value}


CompanyId = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f]{1,255}$",
        description="The company; leading zeros matter.",
        json_schema_extra=_example("0128"),
    ),
]
ChatId = Annotated[
    str,
    Field(
        description=(
            "The chat: a phone number in international form (`60123456789`, `+60123456789`, "
            "`60123456789@c.us`), a group (`…@g.us`), a hidden number (`…@lid`), or `<companyId>-<number>`."
        ),
        json_schema_extra=_example("60123456789"),
    ),
]
PhoneIndex = Annotated[int, Field(ge=0, lt=10**9, json_schema_extra=_example(0))]


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ChatPath(_Shape):
    """Where a chat is."""

    company_id: CompanyId
    chat_id: ChatId


class MessagePath(ChatPath):
    """Where a message is."""

    message_id: str = Field(
        pattern=r"^[^\x00-\x1f]{1,255}$",
        description="The id from the answer to the send, or the provider's.",
        json_schema_extra=_example(_ID),
    )


class PageQuery(_Shape):
    """Which messages of a chat."""

    cursor: int | None = Field(
        None, ge=0, lt=2**63, description="`nextCursor` of the page before; without it, the newest messages."
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
        json_schema_extra=_example("order-1"),
    )


class TextMessage(BaseModel):
    """A text to send."""

    message: str = Field(min_length=1, max_length=MAX_TEXT, description="The text.")
    phoneIndex: int | Annotated[str, Field(pattern="^[0-9]{1,9}$")] = Field(
        0, description="Which of the company's numbers sends it; a number, or one as a string."
    )
    quotedMessageId: str | None = Field(None, max_length=255, description="The message that this one replies to.")
    userName: str | None = Field(None, max_length=255, description="Who wrote it; kept in the history.")


class Accepted(BaseModel):
    """A message that is durable, with its status so far."""

    success: Literal[True]
    messageId: str = Field(json_schema_extra=_example(_ID))
    status: Status
    chatId: str = Field(
        description="The chat in the one form under which it is known.",
        json_schema_extra=_example("60123456789"),
    )
    providerId: str | None = Field(None, description="The provider's id, where it is known already.")


class Reason(BaseModel):
    """Why the last attempt did not succeed."""

    code: str | None = Field(description="The provider's code.", json_schema_extra=_example("131026"))
    reason: str | None = Field(json_schema_extra=_example("the recipient cannot receive this message"))


class StatusEntry(BaseModel):
    """A status that a message reached."""

    status: Status
    at: str = Field(description="When, in UTC.", json_schema_extra=_example(_TIME))
    attempt: int | None = Field(None, description="The attempt that led to it, from 1.")
    code: str | None = Field(None, description="The provider's code, where it went wrong.")
    reason: str | None = Field(None, description="What went wrong.")


class Message(BaseModel):
    """A message and its whole life."""

    messageId: str = Field(json_schema_extra=_example(_ID))
    companyId: str = Field(json_schema_extra=_example("0128"))
    chatId: str = Field(json_schema_extra=_example("60123456789"))
    phoneIndex: int
    kind: str = Field(description="What it is.", json_schema_extra=_example("text"))
    payload: dict[str, Any] = Field(
        description="What was asked to be sent.", json_schema_extra=_example({"message": "Hello"})
    )
    status: Status
    statuses: list[StatusEntry] = Field(description="Every status that it reached, and every attempt.")
    attempts: int = Field(description="Finished attempts.")
    error: Reason | None = Field(description="Why the last attempt did not succeed, if it did not.")
    providerId: str | None = Field(description="The provider's id, once it took the message.")
    acceptedAt: str = Field(json_schema_extra=_example(_TIME))
    updatedAt: str = Field(json_schema_extra=_example(_TIME))


class OneMessage(Message):
    """A message."""

    success: Literal[True]


class MessagePage(BaseModel):
    """Messages of a chat, newest first."""

    success: Literal[True]
    messages: list[Message]
    nextCursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class Alive(BaseModel):
    """The process lives."""

    success: Literal[True]
    status: str = Field(json_schema_extra=_example("ok"))
    process: str = Field(json_schema_extra=_example("api"))
    uptime: int = Field(description="Seconds.")


class ProcessHealth(BaseModel):
    """How a process is, all its instances together."""

    processName: str = Field(json_schema_extra=_example("meta"))
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

    process: str = Field(description="Its name.", json_schema_extra=_example("meta"))


class Metrics(ProcessHealth):
    """What a process has done since it started."""

    success: Literal[True]
    cpu: float = Field(description="Percent of one processor, of all instances.")
    messagesProcessed: int = Field(description="Messages that the API accepted; messages and webhooks of a channel.")
    errors: int
    source: Source
