"""What the simulated network was told to do differently with messages, and how fast phones acknowledge them."""

import threading
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


class Acks(BaseModel):
    """When the phones of customers acknowledge, as it is posted to /_sandbox/wa/acks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sent_ms: Milliseconds = Field(0, description="milliseconds until the server says that it has a message")
    delivered_ms: Milliseconds | None = Field(100, description="milliseconds until it is delivered; null: never")
    read_ms: Milliseconds | None = Field(300, description="milliseconds until it is read; null: never")


class Rule(BaseModel):
    """A rule, as it is posted to /_sandbox/wa/behaviour. The first one that matches a message holds for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = Field("", description="only messages whose text or caption contains this")
    number: str | None = Field(None, description="only messages of this linked number: its digits")
    times: int | None = Field(None, ge=1, description="for so many messages; without it until taken back")
    delay_ms: Milliseconds = Field(0, description="milliseconds until the answer, the message being taken at once")
    answer: Literal["taken", "unacknowledged", "ignored", "refused"] = Field(
        "taken",
        description="unacknowledged: the server has it and does not say so; ignored: it gets lost on the way; "
        "refused: WhatsApp says that it failed",
    )


DEFAULT = Rule()


class Rules:
    """The rules in force, in the order in which they came. Safe for threads; forgotten when the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self.acks = Acks()

    def add(self, rule: Rule) -> None:
        """Put a rule after the others."""
        with self._lock:
            self._rules.append(rule)

    def all(self) -> list[Rule]:
        """The rules, with the number of times that each has left."""
        return self._rules.copy()

    def clear(self) -> None:
        """Behave as usual again."""
        with self._lock:
            self._rules.clear()
        self.acks = Acks()

    def take(self, number: str, text: str) -> Rule:
        """The rule for this message, used once by it."""
        with self._lock:
            for n, rule in enumerate(self._rules):
                if rule.match in text and rule.number in (None, number):
                    self._use(n, rule)
                    return rule
        return DEFAULT

    def _use(self, n: int, rule: Rule) -> None:
        if rule.times == 1:
            del self._rules[n]
        elif rule.times:
            self._rules[n] = rule.model_copy(update={"times": rule.times - 1})
