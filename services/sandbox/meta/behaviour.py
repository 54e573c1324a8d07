"""What the simulator was told to do differently: for every message, for some, or for the next few."""

import threading
import time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.sandbox.meta.graph import Message
from services.sandbox.request_fields import GraphError

#: Seconds after which a pair gets one message more (Cloud API, "Pair rate limits").
PAIR_INTERVAL = 6.0

Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


#: What a rule may name instead of messages.
CALLS = ("upload", "media", "download", "management")


class DialogError(Exception):
    """An error in 360dialog's own form."""


class Behaviour(BaseModel):
    """A rule, as it is posted to /_sandbox/behaviour. The first one that matches a message holds for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = Field("", description="only messages whose text contains this")
    to: str | None = Field(None, description="only messages to this number: its digits")
    kind: str | None = Field(None, description=(
        "only messages of this type; or, instead of messages, calls: upload, media, download, management"
    ))  # fmt: skip
    times: int | None = Field(None, ge=1, description="for so many messages; without it until taken back")
    delay_ms: Milliseconds = Field(0, description="milliseconds until the answer, the message being taken at once")
    error_code: int | None = Field(None, description="answer with this error of the API")
    dialog360_error: str | None = Field(None, description="answer with 400 and this text, in 360dialog's own form")
    cut: Literal["after_accept", "before_accept"] | None = Field(
        None, description="close the connection without an answer, once the message is taken or without taking it"
    )
    statuses: list[Literal["sent", "delivered", "read", "played", "failed"]] = Field(
        ["sent", "delivered", "read"], description="what is reported of the message, in this order"
    )
    failed_code: int = Field(131026, description="the error in a failed report")
    webhook_delay_ms: Milliseconds = Field(50, description="milliseconds before the first report and between them")
    duplicate_webhooks: int = Field(0, ge=0, le=100, description="how often each report is repeated")
    shuffle_webhooks: bool = Field(False, description="whether the reports come in any order")
    pair_rate_limit: int | None = Field(
        None, ge=1, description="messages to one recipient at once; then one more every 6 s, others get 131056"
    )
    enforce_window: bool = Field(False, description="answer 131047 where the customer was silent for 24 hours")
    number_rate_limit: float | None = Field(None, gt=0, description="messages a second of one number; 130429 above")


DEFAULT = Behaviour()


class Delivery(BaseModel):
    """How webhooks are delivered, as it is posted to /_sandbox/webhooks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int = Field(200, ge=1, le=1000, description="updates in one webhook, at most")
    gather_ms: Milliseconds = Field(20, description="milliseconds after a webhook, in which updates gather")
    repeat: int = Field(0, ge=0, le=100, description="how often a webhook that was taken is sent again")
    retry_first_ms: int = Field(250, ge=1, le=3_600_000, description="milliseconds before the first retry")
    retry_last_ms: int = Field(30_000, ge=1, le=3_600_000, description="milliseconds between retries, at most")


def _matches(rule: Behaviour, message: Message) -> bool:
    right_kind = message.kind not in CALLS if rule.kind is None else message.kind == rule.kind
    return right_kind and rule.match in message.text and rule.to in (None, message.recipient)


class Behaviours:
    """The rules in force, in the order in which they came. Safe for threads; forgotten when the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Behaviour] = []
        self._rates: dict[tuple[str, ...], tuple[float, float]] = {}
        self.delivery = Delivery()
        self.enforce_window = False

    def add(self, behaviour: Behaviour) -> None:
        """Put a rule after the others."""
        with self._lock:
            self._rules.append(behaviour)

    def all(self) -> list[Behaviour]:
        """The rules, with the number of times that each has left."""
        return self._rules.copy()

    def clear(self) -> None:
        """Behave as documented again."""
        with self._lock:
            self._rules.clear()
            self._rates.clear()
        self.delivery, self.enforce_window = Delivery(), False

    def take(self, message: Message) -> Behaviour:
        """The rule for this message, used once by it."""
        with self._lock:
            for n, rule in enumerate(self._rules):
                if _matches(rule, message):
                    self._use(n, rule)
                    return rule
        return DEFAULT

    def _use(self, n: int, rule: Behaviour) -> None:
        if rule.times == 1:
            del self._rules[n]
        elif rule.times:
            self._rules[n] = rule.model_copy(update={"times": rule.times - 1})

    def check(self, rule: Behaviour, phone_number_id: str, recipient: str) -> None:
        """Raise the `GraphError` that the rule answers this message with, if any."""
        if rule.dialog360_error is not None:
            raise DialogError(rule.dialog360_error)
        if rule.error_code is not None:
            raise GraphError(rule.error_code, "the sandbox was told to answer so")
        pair, number = rule.pair_rate_limit, rule.number_rate_limit
        if pair and not self._allows(("pair", phone_number_id, recipient), pair, 1 / PAIR_INTERVAL):
            raise GraphError(131056, "the pair's rate limit of the sandbox was hit")
        if number and not self._allows(("number", phone_number_id), max(number, 1), number):
            raise GraphError(130429, "the number's rate limit of the sandbox was hit")

    def _allows(self, key: tuple[str, ...], burst: float, rate: float) -> bool:
        """A token bucket: `burst` at once, `rate` a second in the long run."""
        with self._lock:
            now = time.monotonic()
            tokens, since = self._rates.get(key, (burst, now))
            tokens = min(tokens + (now - since) * rate, burst)
            self._rates[key] = (tokens - 1 if tokens >= 1 else tokens, now)
            return tokens >= 1
