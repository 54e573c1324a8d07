"""Injected faults of Meta's side: for every message, for some, or for the next few."""

import threading
import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.sandbox.meta.graph import Message
from services.sandbox.meta.request_fields import GraphError
from services.sandbox.rules import Milliseconds, Rule, RuleList

#: How often a pair of numbers regains one message (Cloud API, "Pair rate limits").
PAIR_INTERVAL_SECONDS = 6.0
#: Kinds of calls that a rule may name instead of a type of message.
CALL_KINDS = ("upload", "media", "download", "management")


class Dialog360Error(Exception):
    """An error in 360dialog's own form."""


class Behaviour(Rule):
    """A rule, as it is posted to /_sandbox/behaviour. The first one that matches a message applies to it."""

    match: str = Field("", description="only messages whose text contains this")
    to: str | None = Field(None, description="only messages to this number: its digits")
    kind: str | None = Field(None, description=(
        "only messages of this type; or, instead of messages, calls: upload, media, download, management"
    ))  # fmt: skip
    delay_ms: Milliseconds = Field(0, description="milliseconds until the answer; the message is accepted at once")
    error_code: int | None = Field(None, description="answer with this error of the API")
    dialog360_error: str | None = Field(None, description="answer with 400 and this text, in 360dialog's own form")
    cut: Literal["after_accept", "before_accept"] | None = Field(
        None, description="close the connection without an answer, after or before the message is accepted"
    )
    statuses: list[Literal["sent", "delivered", "read", "played", "failed"]] = Field(
        ["sent", "delivered", "read"], description="the statuses to report, in this order"
    )
    failed_code: int = Field(131026, description="the error in a failed status")
    failed_details: str = Field("a rule of the sandbox requires this error", description="the details of that error")
    webhook_delay_ms: Milliseconds = Field(50, description="milliseconds before the first status and between statuses")
    duplicate_webhooks: int = Field(0, ge=0, le=100, description="how often each status is repeated")
    shuffle_webhooks: bool = Field(False, description="whether the statuses are reported in random order")
    pair_rate_limit: int | None = Field(
        None, ge=1, description="messages to one recipient at once, then one every 6 s; others are answered with 131056"
    )
    enforce_window: bool = Field(
        False, description="answer with 131047 if the customer has not written for 24 hours"
    )  # fmt: skip
    number_rate_limit: float | None = Field(
        None, gt=0, description="messages a second of one number; others are answered with 130429"
    )


class Delivery(BaseModel):
    """How webhooks are delivered, as it is posted to /_sandbox/webhooks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int | None = Field(
        None, ge=1, le=1000, description="updates in one webhook, at most; by default one, and 200 if many are due"
    )
    gather_ms: Milliseconds = Field(20, description="milliseconds to wait for more updates after a batch")
    repeat: int = Field(0, ge=0, le=100, description="how often a delivered webhook is sent again")
    retry_first_ms: int = Field(250, ge=1, le=3_600_000, description="milliseconds before the first retry")
    retry_last_ms: int = Field(30_000, ge=1, le=3_600_000, description="milliseconds between retries, at most")


class Behaviours:
    """The rules in force, and the settings that apply to all messages. Thread-safe; lost when the process ends."""

    def __init__(self) -> None:
        self.rules = RuleList(Behaviour())
        self.delivery = Delivery()
        self.enforce_window = False
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, ...], tuple[float, float]] = {}  # (tokens, when they were counted)

    def clear(self) -> None:
        """Behave as documented again."""
        self.rules.clear()
        with self._lock:
            self._buckets.clear()
        self.delivery = Delivery()
        self.enforce_window = False

    def use_for(self, message: Message) -> Behaviour:
        """The rule for this message. Each use counts."""

        def matches(rule: Behaviour) -> bool:
            right_kind = message.kind not in CALL_KINDS if rule.kind is None else message.kind == rule.kind
            return right_kind and rule.match in message.text and rule.to in (None, message.recipient)

        return self.rules.use_first(matches)

    def check(self, rule: Behaviour, phone_number_id: str, recipient: str) -> None:
        """Raise the error that the rule requires for this message: `GraphError` or `Dialog360Error`."""
        if rule.dialog360_error is not None:
            raise Dialog360Error(rule.dialog360_error)
        if rule.error_code is not None:
            raise GraphError(rule.error_code, "a rule of the sandbox requires this error")
        pair, number = rule.pair_rate_limit, rule.number_rate_limit
        if pair and not self._allows(("pair", phone_number_id, recipient), pair, 1 / PAIR_INTERVAL_SECONDS):
            raise GraphError(131056, "the sandbox's rate limit for this pair of numbers was reached")
        if number and not self._allows(("number", phone_number_id), max(number, 1), number):
            raise GraphError(130429, "the sandbox's rate limit for this number was reached")

    def _allows(self, key: tuple[str, ...], burst: float, rate: float) -> bool:
        """Whether a token bucket has a token: `burst` at once, `rate` a second in the long run."""
        with self._lock:
            now = time.monotonic()
            tokens, counted_at = self._buckets.get(key, (burst, now))
            tokens = min(tokens + (now - counted_at) * rate, burst)
            self._buckets[key] = (tokens - 1 if tokens >= 1 else tokens, now)
            return tokens >= 1
