"""The words of a verdict's reasons."""

import math

from bisnesctl.rollout.records import Outcomes
from bisnesctl.rollout.statistics import Share

#: How the two sides that moved bots may be compared with are called.
OTHER_SIDE, BEFORE = "on the other", "before the move"


def percent(share: float) -> str:
    """A share, with one digit unless it is whole."""
    return f"{share * 100:.1f} %"


def seconds(value: float | None) -> str:
    """A latency."""
    if value is None:
        return "-"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def bots(number: int) -> str:
    """Some bots."""
    return f"{number} bot{'' if number == 1 else 's'}"


def rounded(number: int) -> int:
    """A number of messages with two digits that count."""
    if number < 10:
        return max(number, 1)
    unit = int(10 ** (int(math.log10(number)) - 1))
    return -(-number // unit) * unit


def _of(share: Share) -> str:
    return f"{share.part or 'none'} of {share.whole}"


def _with_percent(share: Share) -> str:
    return f"({percent(share.value)})"


def failures(moved: Outcomes, other: Outcomes, name: str, noun: str) -> str:
    """How many messages failed on both sides."""
    one, two = moved.share, other.share
    return f"{_of(one)} {noun} failed on the moved side {_with_percent(one)}, {_of(two)} {name} {_with_percent(two)}"


def code(code: str, moved: Outcomes, other: Outcomes, name: str, noun: str) -> str:
    """How many messages failed with one code."""
    one, two = moved.share_of(code), other.share_of(code)
    return (
        f"{_of(one)} {noun} failed with the code {code} on the moved side {_with_percent(one)}, "
        f"{_of(two)} {name} {_with_percent(two)}: too many"
    )


def main_code(moved: Outcomes) -> str:
    """The code that most failed messages have."""
    if not moved.failures:
        return ""
    name, count = max(moved.failures.items(), key=lambda each: (each[1], each[0]))
    return f"; {count} of them: {name}"


def nothing(one: Share, two: Share, name: str, noun: str) -> str:
    """On which side nothing was finished."""
    where = " and ".join(
        [
            *(["on the moved side"] if not one.whole else []),
            *([f"{name} side" if name == OTHER_SIDE else name] if not two.whole else []),
        ]
    )
    return f"no {noun} {where} yet: nothing to compare"


def latencies(moved: Outcomes, moved_past: Outcomes, other: Outcomes, other_past: Outcomes, name: str) -> str:
    """The median latencies of both sides, and of their past."""
    one, two = _median(moved, moved_past), _median(other, other_past)
    return f"half of the messages leave within {one} on the moved side, {two} {name}"


def _median(now: Outcomes, before: Outcomes) -> str:
    past = before.latency(0.5)
    return seconds(now.latency(0.5)) + (f" ({seconds(past)} before)" if past is not None else "")


def past(now: Outcomes, before: Outcomes) -> str:
    """How many messages of a bot failed, and did so before."""
    one, two = now.share, before.share
    return f"{_of(one)} messages failed {_with_percent(one)}, {_of(two)} before the move {_with_percent(two)}"
