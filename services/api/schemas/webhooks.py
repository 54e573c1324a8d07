"""Pydantic models of webhooks and their deliveries."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator

from services.api.model import Model
from services.api.schemas.base import CompanyId
from services.events.names import ALL, CATALOGUE, unknown

_ID = "01934f7e-5b1c-7d3a-9c55-2f6a7be1d0c4"
_EVENT = "evt_01JZX4M3C8N7Q2V5W9Y1T6R4PK"
_TIME = "2025-01-31T08:00:00.125Z"
_URL = "https://example.com/whatsapp"

Secret = Annotated[
    str,
    Field(
        min_length=16,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Signs each call; printable ASCII. By default a secret is generated and shown once, in the answer.",
    ),
]
Url = Annotated[
    str,
    Field(max_length=2048, description="The URL to which the events are posted.", json_schema_extra={"example": _URL}),
]
Names = Annotated[
    list[str],
    Field(
        min_length=1,
        max_length=50,
        description=f"Names of events, or `{ALL}` for all: {', '.join(f'`{name}`' for name in CATALOGUE)}.",
        json_schema_extra={"example": ["message", "message.ack"]},
    ),
]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=255)]


class _Body(Model):
    model_config = ConfigDict(extra="forbid")


class _Named(_Body):
    @field_validator("events", check_fields=False)
    @classmethod
    def _events_exist(cls, names: list[str] | None) -> list[str] | None:
        if wrong := unknown(names or ()):
            raise ValueError(f"there is no event {wrong[0]}; there are: {ALL}, {', '.join(CATALOGUE)}")
        return None if names is None else sorted(set(names))


class NewWebhook(_Named):
    """A webhook to register."""

    company: CompanyId | None = Field(None, description="The company; required with an operator's key.")
    url: Url
    events: Names
    secret: Secret | None = None


class WebhookChange(_Named):
    """The fields to change; the others stay as they are."""

    url: Url | None = None
    events: Names | None = None
    active: bool | None = Field(
        None, description="An inactive webhook gets no new events. Events that wait are sent once it is active again."
    )


class Rotation(_Body):
    """A new secret."""

    secret: Secret | None = None
    overlapSeconds: int = Field(
        86400, ge=0, le=30 * 86400, description="Seconds for which calls are also signed with the old secret."
    )


class Replay(_Body):
    """The events to send again: one event, or all since an event or a time."""

    eventId: Text | None = Field(None, json_schema_extra={"example": _EVENT})
    since: int | Text | None = Field(
        None,
        description="The ID of an event (events after it), or a time: ISO 8601, or milliseconds since the epoch.",
        json_schema_extra={"example": _TIME},
    )
    limit: int = Field(1000, ge=1, le=10000, description="Maximum number of events.")


class WebhookPath(Model):
    """The path of a webhook."""

    webhookId: str = Field(description="The ID of the webhook.", json_schema_extra={"example": _ID})


class CompanyQuery(Model):
    """The company of the webhooks."""

    company: CompanyId | None = Field(None, description="The company; required with an operator's key.")


class DeliveryQuery(Model):
    """A page of deliveries."""

    status: Literal["pending", "delivered", "dead"] | None = None
    cursor: int | None = Field(
        None, ge=0, lt=2**63, description="`nextCursor` of the previous page; without it, the newest deliveries."
    )
    limit: int = Field(50, ge=1, le=200, description="Maximum number of deliveries on the page.")


class Webhook(Model):
    """A webhook, without its secret."""

    id: str = Field(json_schema_extra={"example": _ID})
    company: str
    url: str = Field(json_schema_extra={"example": _URL})
    events: list[str]
    active: bool
    pending: int = Field(description="Number of events that wait for it.")
    failures: int = Field(description="Number of calls that failed since the last one that succeeded.")
    lastError: str | None = Field(description="Why the last call failed, if it did.")
    pausedUntil: str | None = Field(description="Until then it is not called, because it kept failing.")
    lastDeliveredAt: str | None = Field(json_schema_extra={"example": _TIME})
    previousSecretUntil: str | None = Field(description="Until then calls are also signed with the previous secret.")
    createdAt: str = Field(json_schema_extra={"example": _TIME})
    updatedAt: str = Field(json_schema_extra={"example": _TIME})


class OneWebhook(Model):
    """A webhook."""

    success: Literal[True]
    webhook: Webhook


class WebhookWithSecret(OneWebhook):
    """A webhook and its secret, which is shown only once."""

    secret: str


class WebhookList(Model):
    """The webhooks of a company."""

    success: Literal[True]
    webhooks: list[Webhook]


class Delivery(Model):
    """The delivery of an event to a webhook."""

    eventId: str = Field(json_schema_extra={"example": _EVENT})
    event: str | None = Field(description="Its name; null once the event has been deleted.")
    chatId: str | None
    status: Literal["pending", "delivered", "dead"]
    attempts: int
    responseStatus: int | None = Field(description="HTTP status of the last attempt.")
    error: str | None = Field(description="Why the last attempt failed.")
    firstTriedAt: str | None
    createdAt: str
    updatedAt: str


class DeliveryPage(Model):
    """Deliveries of a webhook, newest event first."""

    success: Literal[True]
    deliveries: list[Delivery]
    nextCursor: str | None = Field(description="`cursor` of the next page; null on the last page.")


class Replayed(Model):
    """The events that were queued."""

    success: Literal[True]
    count: int = Field(description="Number of events that were queued again, without those that were waiting already.")
    next: str | None = Field(description="If the limit was reached: `since` of the next request.")


class Tested(Model):
    """The event that was queued."""

    success: Literal[True]
    eventId: str = Field(json_schema_extra={"example": _EVENT})
