"""The steps of a rollout, and the order in which bots move: pure functions."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bisnesctl import moments
from bisnesctl.errors import UsageError

#: The shares of bots in percent to which an operator's `advance` leads, one after the other.
LADDER = (10.0, 25.0, 50.0, 100.0)
#: The form of the steps, for messages.
FORM = "such as '10%:10m,50%:30m,100%': the share of the bots, and how long it is watched before the next step"

_STEP = re.compile(r"(?P<percent>\d{1,3}(?:\.\d{1,3})?)%(?::(?P<time>\w+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Step:
    """A share of the bots, and how long it is watched once they have moved."""

    percent: float
    #: Seconds; None: until an operator advances.
    seconds: float | None = None

    def __str__(self) -> str:
        """The step in a sentence."""
        return f"{self.percent:g} %"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A bot that may move."""

    bot_id: int
    name: str
    #: Whether only tests use it: a number of the sandbox or of Meta's tests.
    is_test: bool
    #: Messages of the last days.
    messages: int


def parse_steps(text: str) -> list[Step]:
    """The steps of `run`. Raises `UsageError`."""
    steps = [_parse_step(part.strip()) for part in text.split(",")]
    shares = [each.percent for each in steps]
    if shares != sorted(set(shares)):
        raise UsageError(f"the shares of {text!r} do not grow from step to step: type them {FORM}")
    if shares[-1] != 100:
        raise UsageError(f"the last step of {text!r} is not 100%: a rollout ends with all bots on one side")
    return steps


def _parse_step(text: str) -> Step:
    found = _STEP.fullmatch(text)
    if not found:
        raise UsageError(f"{text!r} is no step: type {FORM}")
    percent, time = float(found["percent"]), found["time"]
    seconds = moments.parse_duration(time) if time else 0.0
    if seconds is None:
        raise UsageError(f"{time!r} is no duration: type 90s, 10m or 1h30m")
    return Step(check_percent(percent), seconds)


def check_percent(percent: float) -> float:
    """A share of the bots. Raises `UsageError` unless it is above 0 and at most 100."""
    if not 0 < percent <= 100:
        raise UsageError(f"{percent:g} % is no share of the bots: type a number above 0, up to 100")
    return percent


def next_step(percent: float) -> Step:
    """The step after a share of the bots, which an operator's `advance` begins."""
    return Step(next((each for each in LADDER if each > percent), LADDER[-1]))


def count(bots: int, percent: float) -> int:
    """How many of the bots a share of them is: at least one, and all only for 100 %."""
    if percent <= 0 or not bots:
        return 0
    wanted = math.ceil(bots * percent / 100 - 1e-9)
    return wanted if percent >= 100 else max(1, min(wanted, bots - 1))


def order(candidates: Sequence[Candidate], first: Collection[int] = ()) -> list[Candidate]:
    """The candidates in the order in which they move: the named ones, test numbers, the least busy, the rest."""
    return sorted(candidates, key=lambda each: (each.bot_id not in first, not each.is_test, each.messages, each.name))
