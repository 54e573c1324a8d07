"""Judges a release by what was counted since it runs, beside what was counted before. Pure functions.

A share of failures is judged by a bound on the chance that the release before would have had as many (Chernoff's, which
is never too small): `MARGIN` more failures are allowed, and the chance must be below `CHANCE`. The chance is so small
because it is looked at again and again. Averages of times are judged by a factor and a least difference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

#: Failures in addition to those before that are not the release's fault, as a share of all.
MARGIN = 0.01
#: The chance of a false alarm at one look.
CHANCE = 1e-4
#: Failures without which nothing is judged.
LEAST_FAILURES = 5
#: Answers without which no average is judged.
LEAST_ANSWERS = 20
#: A release is slow if its answers take this many times as long as before, and these seconds longer.
SLOWER_FACTOR, SLOWER_SECONDS = 3.0, 0.2
#: The last own requests that are judged, and how many of them may fail.
RECENT_REQUESTS, FAILED_REQUESTS = 5, 2


@dataclass(frozen=True)
class Counts:
    """The counts of a program."""

    total: int = 0
    failed: int = 0
    #: Seconds that all answers took together.
    seconds: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.total + other.total, self.failed + other.failed, self.seconds + other.seconds)

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(self.total - other.total, self.failed - other.failed, self.seconds - other.seconds)

    @property
    def share(self) -> float:
        """The share of failures."""
        return min(self.failed / self.total, 1.0) if self.total else 0.0

    @property
    def mean(self) -> float:
        """Seconds that an answer took."""
        return self.seconds / self.total if self.total else 0.0


@dataclass(frozen=True)
class OwnRequest:
    """A request that the watch sent itself."""

    #: The reason why it was not answered well; empty if it was.
    fault: str
    seconds: float


def too_many(before: Counts, now: Counts) -> bool:
    """Whether more failed than before, beyond the margin and beyond chance."""
    if now.failed < LEAST_FAILURES:
        return False
    total, allowed = max(now.total, now.failed), before.share + MARGIN
    share = now.failed / total
    return allowed < 1 and share > allowed and total * _divergence(share, allowed) > -math.log(CHANCE)


def is_slow(before: float, now: float) -> bool:
    """Whether answers take longer than before, and by enough for people to notice. In seconds."""
    return now > SLOWER_FACTOR * before and now > before + SLOWER_SECONDS


def judge_answers(name: str, before: Counts, now: Counts) -> str:
    """Why a program that answers requests is worse than before; empty if it is not."""
    if too_many(before, now):
        return f"{name} fails: {now.failed} of {now.total} requests were answered with 5xx, before {before.share:.1%}"
    if now.total >= LEAST_ANSWERS and before.total >= LEAST_ANSWERS and is_slow(before.mean, now.mean):
        return f"{name} is slow: {_ms(now.mean)} for an answer on average, before {_ms(before.mean)}"
    return ""


def judge_messages(name: str, before: Counts, now: Counts) -> str:
    """Why a program that sends is worse than before; empty if it is not."""
    if too_many(before, now):
        return f"{name} fails: {now.failed} of {now.total} messages failed, before {before.share:.1%}"
    return ""


def judge_own_requests(before: Sequence[OwnRequest], now: Sequence[OwnRequest]) -> str:
    """Why the requests of the watch itself are answered worse than before; empty if they are not."""
    if len([each for each in before if each.fault]) > FAILED_REQUESTS:
        return ""  # they say nothing about the release
    recent = now[-RECENT_REQUESTS:]
    faults = [each.fault for each in recent if each.fault]
    if len(faults) > FAILED_REQUESTS:
        return f"the API does not answer the watch: {faults[-1]} ({len(faults)} of {len(recent)} requests)"
    times = [median(each.seconds for each in group) for group in (before, recent) if group]
    if len(recent) == RECENT_REQUESTS and len(times) == 2 and is_slow(*times):
        return f"the API is slow: it takes {_ms(times[1])} to answer the watch, before {_ms(times[0])}"
    return ""


def _divergence(share: float, expected: float) -> float:
    """The relative entropy of two shares (Kullback and Leibler)."""
    parts = [share * math.log(share / expected)] if share else []
    parts += [(1 - share) * math.log((1 - share) / (1 - expected))] if share < 1 else []
    return sum(parts)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
