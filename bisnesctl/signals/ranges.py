"""Ranges of the monitoring plugin guidelines: `10`, `10:`, `~:10`, `10:20`, `@10:20`. A value outside of one alerts."""

import math
import re
from dataclasses import dataclass

from bisnesctl.errors import UsageError

_NUMBER = r"-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(?P<inside>@)?(?:(?P<low>~|{_NUMBER})?:)?(?P<high>{_NUMBER})?")


@dataclass(frozen=True)
class Range:
    """The values that are as they should be: from `low` to `high`, both included."""

    low: float = 0.0
    high: float = math.inf
    #: Whether the values within it alert, instead of those outside.
    inside: bool = False

    def alerts(self, value: float) -> bool:
        """Whether a value alerts. One that is not a number does not: nothing is known about it."""
        return not math.isnan(value) and (self.low <= value <= self.high) is self.inside

    def __str__(self) -> str:
        low = "" if self.low == 0 else f"{'~' if math.isinf(self.low) else plain(self.low)}:"
        high = "" if math.isinf(self.high) else plain(self.high)
        return f"{'@' if self.inside else ''}{low}{high}" if low or high else f"{'@' if self.inside else ''}0:"


def parse(text: str) -> Range:
    """A range as it is typed. Raises `UsageError`."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or text.strip() in ("", "@", ":", "@:"):
        raise UsageError(f"{text!r} is no range: type 10 (alert outside of 0 to 10), 10:, ~:10, 10:20 or @10:20")
    low = found["low"]
    start = -math.inf if low == "~" else float(low or 0)
    end = math.inf if found["high"] is None else float(found["high"])
    if start == math.inf or (found["high"] and math.isinf(end)):
        raise UsageError(f"{text!r} is no range: a number is too large")
    if start > end:
        raise UsageError(f"{text!r} is no range: it begins above its end")
    return Range(start, end, bool(found["inside"]))


def plain(value: float) -> str:
    """A number as short as it can be, without an exponent where it is usual: 10 and not 10.0."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
