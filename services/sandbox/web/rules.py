"""Injected faults of WhatsApp Web's network."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.sandbox.rules import Milliseconds, Rule


class Acks(BaseModel):
    """When messages are acknowledged, as it is posted to /_sandbox/wa/acks; null: never."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sent_ms: Milliseconds = Field(0, description="milliseconds until WhatsApp's server has the message")
    delivered_ms: Milliseconds | None = Field(100, description="milliseconds after that until it is delivered")
    read_ms: Milliseconds | None = Field(300, description="milliseconds after `sent_ms` until it is read")


class WebRule(Rule):
    """A rule, as it is posted to /_sandbox/wa/behaviour. The first one that matches a message applies to it."""

    match: str = Field("", description="only messages whose text or caption contains this")
    number: str | None = Field(None, description="only messages of this linked number: its digits")
    delay_ms: Milliseconds = Field(0, description="milliseconds until the answer; the message is accepted at once")
    answer: Literal["taken", "unacknowledged", "ignored", "refused"] = Field(
        "taken",
        description="taken: accepted and acknowledged; unacknowledged: accepted without an acknowledgement; "
        "ignored: lost on the way; refused: WhatsApp reports a failure",
    )
