"""Pydantic models of the queue: its counts, its messages, and pauses."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from bisnesctl.queue.pauses import MAX_PAUSE_SECONDS, MAX_REASON_CHARACTERS
from bisnesctl.queue.states import MAX_PAGE, State
from services.api.model import Model
from services.api.schemas.base import CompanyId, MessageId, PhoneIndex

#: Seconds of the age that a filter may ask for: a century.
_MAX_AGE_SECONDS = 100 * 366 * 86400


class _Shape(Model):
    model_config = ConfigDict(alias_generator=to_camel)


class BotsQuery(_Shape):
    """The bots that are meant."""

    company: CompanyId | None = Field(None, description="Only this company.")
    phone_index: PhoneIndex | None = Field(None, description="Only this bot; needs `company` with an operator's key.")


class QueueQuery(BotsQuery):
    """Filters the messages of the queue."""

    chat_id: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,255}$")] | None = Field(
        None, description="Only this chat, in any form."
    )
    state: State | None = Field(None, description="Only this state; without it, all that are not finished.")
    older_than: int | None = Field(
        None, ge=1, le=_MAX_AGE_SECONDS, description="Only messages that were accepted more seconds ago."
    )
    limit: int = Field(50, ge=1, le=MAX_PAGE)
    after: int = Field(0, ge=0, lt=2**63, description="`nextAfter` of the previous page.")


class QueuedPath(_Shape):
    """The path of a message in the queue."""

    message_id: MessageId


class Counts(Model):
    """Numbers of messages."""

    waiting: int = Field(ge=0, description="They wait for their turn.")
    active: int = Field(ge=0, description="Workers have them in hand.")
    completed: int = Field(ge=0, description="They were sent.")
    failed: int = Field(ge=0, description="They failed.")
    delayed: int = Field(ge=0, description="Their bot is held or paused, or they wait for their next attempt.")
    total: int = Field(ge=0, description="All together.")
    unknown: int = Field(ge=0, description="They may have been sent.")
    oldestSeconds: float | None = Field(description="The age of the oldest message that waits; null: none waits.")


class Stats(Model):
    """The counts of each queue, and all together."""

    success: Literal[True]
    queues: dict[str, Counts] = Field(description="By the name of the queue: `meta-messages`, `wwebjs-messages`.")
    total: Counts


class QueuedMessage(Model):
    """A message of the queue."""

    messageId: str
    number: int = Field(description="Its place in the order of acceptance.")
    companyId: str
    phoneIndex: int
    channel: str | None = Field(description="null: its bot was removed.")
    chatId: str
    kind: str
    state: str = Field(description="A state of the queue, or the message's status once it was sent.")
    acceptedAt: str
    ageSeconds: float
    attempts: int
    code: str | None = Field(description="The code of the last error.")
    error: str | None
    nextAttemptAt: str | None = Field(description="null: as soon as it is its turn.")
    reason: str = Field(description="Why it waits, or what became of it.")


class QueuePage(Model):
    """A page of messages, oldest first."""

    success: Literal[True]
    messages: list[QueuedMessage]
    nextAfter: int | None = Field(description="null: it is the last page.")


class QueuedDetails(QueuedMessage):
    """A message with its whole life."""

    success: Literal[True]
    ahead: int = Field(description="Number of messages of its chat that leave before it.")
    firstMessageId: str | None = Field(description="The chat's first message, if it is another one.")
    providerId: str | None
    timeline: list[dict[str, Any]]
    payload: dict[str, Any]


class Changed(Model):
    """The message was cancelled or retried."""

    success: Literal[True]
    messageId: str
    result: str


class _PauseShape(_Shape):
    model_config = ConfigDict(extra="forbid")

    company: CompanyId | None = Field(None, description="The company; required with an operator's key.")
    phone_index: PhoneIndex | None = Field(None, description="The bot; without it, all bots of the company.")


class PauseRequest(_PauseShape):
    """The bots to pause."""

    reason: Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$", max_length=MAX_REASON_CHARACTERS)] | None = Field(
        None, description="Why; shown to operators and in the event `bot.status`."
    )
    for_seconds: int | None = Field(
        None,
        ge=1,
        le=MAX_PAUSE_SECONDS,
        description="The pause ends by itself after so long; null: when it is resumed.",
    )


class ResumeRequest(_PauseShape):
    """The bots to resume."""


class PausedBot(Model):
    """A bot that was paused or resumed."""

    companyId: str
    phoneIndex: int


class Pauses(Model):
    """The bots that are paused now."""

    success: Literal[True]
    bots: list[PausedBot]
    inHand: int = Field(description="Number of messages that workers have in hand, which may still leave.")


class Resumed(Model):
    """The bots that were paused until now."""

    success: Literal[True]
    bots: list[PausedBot]
