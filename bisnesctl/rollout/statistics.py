"""Tests of two samples that stay valid however often somebody looks.

Each function returns *evidence*: the logarithm of a test martingale, which begins at 0. If the hypothesis holds, the
probability that its evidence ever reaches `-log(alpha)` is at most alpha (Ville's inequality). So there is no number of
looks to plan, none to count, and none to store: the evidence depends on the data alone.

Shares are compared by an exact binomial test: the likelihood under a beta prior, over the likelihood under the
hypothesis. Nothing is approximated, so it holds for three failures as for three thousand. Latencies are compared by
their ranks (Mann and Whitney), whose statistic is nearly normal from some twenty values on each side; its evidence is
that of a normal mixture (Robbins). docs/explanation/rollout.md explains both.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: The beta prior of a share of failures: most shares are small. It changes how fast evidence grows, not its validity.
_PRIOR = 0.5, 19.5
_PRIOR_LOG_BETA = math.lgamma(_PRIOR[0]) + math.lgamma(_PRIOR[1]) - math.lgamma(sum(_PRIOR))
#: Halvings of the interval in which the hypothesis' best explanation of the data is searched.
_HALVINGS = 40
#: Values on each side below which ranks are no evidence.
MIN_RANKED = 20
#: The number of values (the harmonic mean of both sides, halved) for which the mixture of ranks is the strongest.
_RANKS_AIM = 60.0

#: How often each value of an ordered quantity occurs.
Counts = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Share:
    """Some of a number of messages."""

    part: int
    whole: int

    def __add__(self, other: "Share") -> "Share":
        return Share(self.part + other.part, self.whole + other.whole)

    def __sub__(self, other: "Share") -> "Share":
        return Share(self.part - other.part, self.whole - other.whole)

    @property
    def value(self) -> float:
        """The share, from 0 to 1; 0 of nothing."""
        return self.part / self.whole if self.whole else 0.0


def fisher(one: Share, other: Share) -> float:
    """The probability of at least as many in `one` if both shares were equal: Fisher's exact test, one-sided.

    It is valid for a single look, or for few: use it where nothing changes between looks.
    """
    part, whole = one.part + other.part, one.whole + other.whole
    found = sum(
        math.comb(one.whole, number) * math.comb(other.whole, part - number)
        for number in range(one.part, min(part, one.whole) + 1)
    )
    return found / math.comb(whole, part)


def evidence_of_more(one: Share, other: Share, margin: float = 0.0) -> float:
    """Evidence against: the true share of `one` is at most that of `other` plus a margin."""
    if one.value <= other.value + margin:
        return _evidence(one, one.value) + _evidence(other, other.value)
    return _least_evidence(one, other, margin)


def evidence_of_no_more(one: Share, other: Share, margin: float = 0.0) -> float:
    """Evidence against: the true share of `one` is at least that of `other` plus a margin."""
    if one.value >= other.value + margin:
        return _evidence(one, one.value) + _evidence(other, other.value)
    return _least_evidence(one, other, margin)


def _least_evidence(one: Share, other: Share, margin: float) -> float:
    """The least evidence against any pair of shares that differ by the margin exactly.

    It is convex along these pairs, so its slope has one zero.
    """
    low, high = max(0.0, -margin), min(1.0, 1.0 - margin)
    if low > high:
        return 0.0

    def slope(share: float) -> float:
        return _slope(one, share + margin) + _slope(other, share)

    share = _zero(slope, low, high)
    return _evidence(one, share + margin) + _evidence(other, share)


def _zero(function: Callable[[float], float], low: float, high: float) -> float:
    """The point at which a growing function is 0, or the end of the interval that is nearest to it."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _slope(found: Share, share: float) -> float:
    """The slope of the evidence against a share."""
    rest = found.whole - found.part
    left = -found.part / share if share > 0 else -math.inf if found.part else 0.0
    right = rest / (1 - share) if share < 1 else math.inf if rest else 0.0
    return left + right


def _evidence(found: Share, share: float) -> float:
    """Evidence against one true share: the beta mixture over it, as a logarithm."""
    part, rest = found.part, found.whole - found.part
    mixture = (
        math.lgamma(_PRIOR[0] + part) + math.lgamma(_PRIOR[1] + rest) - math.lgamma(sum(_PRIOR) + found.whole)
    ) - _PRIOR_LOG_BETA
    return mixture - _times_log(part, share) - _times_log(rest, 1 - share)


def _times_log(number: int, share: float) -> float:
    if not number:
        return 0.0
    return number * math.log(share) if share > 0 else -math.inf


@dataclass(frozen=True, slots=True)
class Ranks:
    """How the values of one sample stand to those of another."""

    larger: float  # the probability that a value of the first is the larger one, ties counted half
    deviation: float  # the standard deviation of that estimate
    effective: float  # half of the harmonic mean of both numbers of values; 0: too few to judge

    @property
    def evidence_of_larger(self) -> float:
        """Evidence against: the values of the first sample are mostly not larger than those of the second."""
        return self._evidence(self.larger - 0.5)

    @property
    def evidence_of_smaller(self) -> float:
        """Evidence against: the values of the first sample are mostly not smaller than those of the second."""
        return self._evidence(0.5 - self.larger)

    def _evidence(self, distance: float) -> float:
        if not self.effective or distance <= 0:
            return 0.0
        score = distance / self.deviation
        mixed = _RANKS_AIM + self.effective
        return 0.5 * math.log(_RANKS_AIM / mixed) + score * score * self.effective / mixed / 2


def rank(one: Counts, other: Counts, shift: int = 0) -> Ranks:
    """Compares two samples by rank, after `shift` was subtracted from each value of the first.

    The deviation is the larger one of two: that of samples with the same distribution, ties corrected (Mann and
    Whitney), and that of samples with any distributions (Brunner and Munzel).
    """
    many, others = sum(one.values()), sum(other.values())
    if min(many, others) < MIN_RANKED:
        return Ranks(0.5, math.inf, 0.0)
    below, below_other, ties = 0, 0, 0  # values below the one that is looked at
    above = square = above_other = square_other = 0.0
    for value in sorted({*other, *(value - shift for value in one)}):
        count, count_other = one.get(value + shift, 0), other.get(value, 0)
        place, place_other = below_other + count_other / 2, below + count / 2
        above, square = above + count * place, square + count * place * place
        above_other, square_other = above_other + count_other * place_other, square_other + count_other * place_other**2
        below, below_other = below + count, below_other + count_other
        ties += (count + count_other) ** 3 - count - count_other
    together = many + others
    variance = (square - above**2 / many) / (many - 1) / many / others**2
    variance += (square_other - above_other**2 / others) / (others - 1) / others / many**2
    same = (together + 1 - ties / (together * (together - 1))) / (12 * many * others)
    floor = 1 / (4 * many * others)  # all values are equal: no deviation could be estimated
    return Ranks(above / many / others, math.sqrt(max(variance, same, floor)), many * others / together)


def quantile(counts: Counts, share: float) -> int | None:
    """The value below or at which a share of all lie; None if there is none."""
    total = sum(counts.values())
    reached = 0
    for value in sorted(counts):
        reached += counts[value]
        if reached >= share * total and reached:
            return value
    return None
