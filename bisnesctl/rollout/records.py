"""The data of a verdict on a rollout: the outcomes of bots' messages, on both sides, and alarms."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from bisnesctl.rollout.statistics import Counts, Share, quantile

#: Steps of latency for each doubling: two latencies that differ by less than 4 % may count as equal.
STEPS_PER_DOUBLING = 16
#: Seconds: shorter latencies count as this one, since nobody notices the difference.
LATENCY_FLOOR_SECONDS = 0.1
#: The code of messages that were accepted long ago and have not left.
OVERDUE = "overdue"
#: The code of messages that may have been sent.
UNKNOWN = "unknown"


def latency_step(seconds: float) -> int:
    """The number of the step that a latency belongs to."""
    return round(STEPS_PER_DOUBLING * math.log2(max(seconds, LATENCY_FLOOR_SECONDS)))


def latency_seconds(step: int) -> float:
    """The latency in the middle of a step."""
    return float(2 ** (step / STEPS_PER_DOUBLING))


def added(counts: Iterable[Counts]) -> dict[int, int]:
    """The sum of several counts."""
    found: dict[int, int] = {}
    for each in counts:
        for value, count in each.items():
            found[value] = found.get(value, 0) + count
    return found


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The ends of some messages. Those that wait, and are not overdue, are not among them."""

    sent: int = 0  # that the provider took and nobody reported as failed
    failures: Mapping[str, int] = field(default_factory=dict)  # by code, overdue and unknown messages included
    latencies: Counts = field(default_factory=dict)  # of sent messages, by `latency_step`
    delivered: int = 0  # of those that were sent: reported as delivered or read

    @property
    def failed(self) -> int:
        """Messages that failed, are overdue, or may have been sent."""
        return sum(self.failures.values())

    @property
    def share(self) -> Share:
        """The share that failed."""
        return Share(self.failed, self.sent + self.failed)

    def share_of(self, code: str) -> Share:
        """The share that failed with a code, of these and those that were sent."""
        count = self.failures.get(code, 0)
        return Share(count, self.sent + count)

    def __add__(self, other: "Outcomes") -> "Outcomes":
        return total([self, other])

    def __sub__(self, part: "Outcomes") -> "Outcomes":
        return Outcomes(
            self.sent - part.sent,
            {code: count - part.failures.get(code, 0) for code, count in self.failures.items()},
            {step: count - part.latencies.get(step, 0) for step, count in self.latencies.items()},
            self.delivered - part.delivered,
        )

    def levelled(self, step: int) -> "Outcomes":
        """The same, with latencies in relation to one of them."""
        return replace(self, latencies={each - step: count for each, count in self.latencies.items()})

    def without_latencies(self) -> "Outcomes":
        """The same, as if no latency had been measured."""
        return replace(self, latencies={})

    def latency(self, share: float) -> float | None:
        """The latency, in seconds, that this share of messages did not exceed; None: none was measured."""
        step = quantile(self.latencies, share)
        return None if step is None else latency_seconds(step)


def total(outcomes: Iterable[Outcomes]) -> Outcomes:
    """The sum of several outcomes."""
    found = list(outcomes)
    failures: Counter[str] = Counter()
    for each in found:
        failures.update(each.failures)
    latencies = added(each.latencies for each in found)
    return Outcomes(sum(each.sent for each in found), dict(failures), latencies, sum(each.delivered for each in found))


@dataclass(frozen=True, slots=True)
class BotRecord:
    """One bot: its messages since the step began, and those of a time before it was moved."""

    name: str  # 0128/0
    now: Outcomes = field(default_factory=Outcomes)  # customers' messages
    before: Outcomes = field(default_factory=Outcomes)
    probes: Outcomes = field(default_factory=Outcomes)  # messages to test chats, since the step began
    waiting: int = 0  # accepted since the step began, not sent and not overdue
    trouble: str = ""  # why the bot itself cannot send, such as an expired token
    trouble_is_new: bool = False  # whether that began with the step or later
    connected: bool = True  # whether its side can serve it now


class AlarmKind(StrEnum):
    """The kinds of events that end a rollout at once, without statistics."""

    CRASH_LOOP = "crash_loop"
    SESSION_LOST = "session_lost"
    HEARTBEAT_GONE = "heartbeat_gone"
    MESSAGE_DOUBLED = "message_doubled"
    MESSAGE_LOST = "message_lost"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One event on the moved side after which the rollout must not continue."""

    kind: AlarmKind
    text: str  # a sentence for an operator


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides of a rollout in the same time."""

    moved: Sequence[BotRecord] = ()
    unmoved: Sequence[BotRecord] = ()
    alarms: Sequence[Alarm] = ()


@dataclass(frozen=True, slots=True)
class Criteria:
    """How different the sides may be."""

    failure_margin: float = 0.02  # by which the share of failures may be larger
    latency_ratio: float = 1.5  # by which latencies may be longer

    @property
    def latency_steps(self) -> int:
        """The ratio in steps of latency."""
        return round(STEPS_PER_DOUBLING * math.log2(self.latency_ratio))


class Ruling(StrEnum):
    """The result of a verdict."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rollout may advance, and why."""

    ruling: Ruling
    reasons: tuple[str, ...]  # sentences for an operator, the deciding ones first
    worse: tuple[str, ...] = ()  # moved bots that got worse since they were moved

    def plain(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {"ruling": self.ruling.value, "reasons": list(self.reasons), "worse": list(self.worse)}
