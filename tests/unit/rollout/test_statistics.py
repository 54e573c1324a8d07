"""The tests of two samples: exact, symmetric, monotone, and valid however often somebody looks."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.rollout.statistics import (
    MIN_RANKED,
    Share,
    evidence_of_more,
    evidence_of_no_more,
    fisher,
    quantile,
    rank,
)


@st.composite
def shares(draw, least=0):
    whole = draw(st.integers(least, 3000))
    return Share(draw(st.integers(0, whole)), whole)


margins = st.floats(-0.9, 0.9)
values = st.lists(st.integers(-60, 60), min_size=MIN_RANKED, max_size=80)


def counted(found):
    return {value: found.count(value) for value in found}


def test_fisher_agrees_with_the_lady_who_tasted_tea():
    assert fisher(Share(3, 4), Share(1, 4)) == pytest.approx(17 / 70)
    assert fisher(Share(4, 4), Share(0, 4)) == pytest.approx(1 / 70)


@given(shares(), shares())
def test_fisher_is_a_probability_and_certain_of_nothing(one, other):
    assert 0 <= fisher(one, other) <= 1 + 1e-9
    assert fisher(Share(0, one.whole), other) == pytest.approx(1)


@given(shares(1), shares(1), margins)
def test_more_by_a_margin_is_the_same_as_the_other_being_no_more_than_less_the_margin(one, other, margin):
    assert evidence_of_more(one, other, margin) == pytest.approx(evidence_of_no_more(other, one, -margin), abs=1e-6)


@given(shares(1), shares(1), st.floats(0, 0.5))
def test_no_data_are_evidence_of_both(one, other, margin):
    assert min(evidence_of_more(one, other, margin), evidence_of_no_more(one, other, margin)) <= 1e-9


@given(shares(), st.floats(0, 0.5))
def test_a_side_without_data_is_never_shown_to_be_more_or_less(one, margin):
    nothing = Share(0, 0)
    assert evidence_of_more(one, nothing, margin) <= 1e-9
    assert evidence_of_more(nothing, one, margin) <= 1e-9


@given(shares(1), shares(1), st.floats(0, 0.5))
def test_one_more_failure_never_weakens_strong_evidence_of_more(one, other, margin):
    before = evidence_of_more(one, other, margin)
    if before >= math.log(20) and 2 * one.part <= one.whole:  # the prior finds shares near 1 most unlikely
        assert evidence_of_more(Share(one.part + 1, one.whole + 1), other, margin) >= before - 1e-9
        if one.part < one.whole:
            assert evidence_of_more(Share(one.part + 1, one.whole), other, margin) >= before - 1e-9


@given(shares(1), shares(1), st.floats(0, 0.5))
def test_one_more_failure_never_makes_evidence_of_no_more(one, other, margin):
    after = evidence_of_no_more(Share(one.part + 1, one.whole + 1), other, margin)
    if after >= math.log(20):
        assert evidence_of_no_more(one, other, margin) >= after - 0.5


@given(shares(1), shares(1), st.floats(0, 0.5))
def test_a_wider_margin_is_harder_to_exceed(one, other, margin):
    found = [evidence_of_more(one, other, margin + step / 50) for step in range(5)]
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(found) if earlier > 0)


def test_evidence_is_exact_for_one_share():
    """Against a share that is known exactly, the evidence is the beta mixture over the likelihood."""
    found, known = Share(12, 240), Share(3_000_000, 1_000_000_000)
    mixture = math.lgamma(12.5) + math.lgamma(247.5) - math.lgamma(260)
    mixture -= math.lgamma(0.5) + math.lgamma(19.5) - math.lgamma(20)
    likelihood = 12 * math.log(0.003) + 228 * math.log(0.997)
    price = evidence_of_more(found, known) - (mixture - likelihood)
    assert price == pytest.approx(evidence_of_more(Share(0, 0), known), abs=0.01)


@pytest.mark.parametrize("share", [0.002, 0.02, 0.3])
def test_looking_at_every_message_finds_a_difference_that_is_not_there_no_more_often_than_said(share):
    draw = random.Random(str(share))
    alarms = 0
    for _ in range(400):
        one = other = Share(0, 0)
        for _ in range(400):
            one += Share(draw.random() < share, 1)
            other += Share(sum(draw.random() < share for _ in range(3)), 3)
            if evidence_of_more(one, other) >= math.log(10):
                alarms += 1
                break
    assert alarms / 400 <= 0.1


@given(values, values, st.integers(-30, 30))
def test_ranks_are_symmetric(one, other, shift):
    found, swapped = rank(counted(one), counted(other), shift), rank(counted(other), counted(one), -shift)
    assert found.larger == pytest.approx(1 - swapped.larger)
    assert found.deviation == pytest.approx(swapped.deviation)
    assert found.evidence_of_larger == pytest.approx(swapped.evidence_of_smaller, abs=1e-6)


@given(values, values, st.integers(-30, 30))
def test_ranks_count_the_pairs(one, other, shift):
    pairs = [(first - shift > second) + (first - shift == second) / 2 for first in one for second in other]
    assert rank(counted(one), counted(other), shift).larger == pytest.approx(sum(pairs) / len(pairs))


@given(values, values)
def test_a_larger_shift_never_makes_the_first_larger(one, other):
    found = [rank(counted(one), counted(other), shift).larger for shift in range(-20, 21, 5)]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(found))


@given(st.lists(st.integers(0, 9), max_size=MIN_RANKED - 1), values)
def test_few_values_are_no_evidence(one, other):
    found = rank(counted(one), counted(other))
    assert (found.evidence_of_larger, found.evidence_of_smaller) == (0, 0)


def test_equal_values_are_no_evidence_and_separate_ones_are():
    assert rank({5: 100}, {5: 100}).evidence_of_larger == 0
    assert rank({9: 100}, {5: 100}).evidence_of_larger > math.log(1000)
    assert rank({9: 100}, {5: 100}).evidence_of_smaller == 0


def test_looking_often_finds_a_larger_sample_that_is_not_there_no_more_often_than_said():
    draw = random.Random(7)
    alarms = 0
    for _ in range(300):
        one: dict[int, int] = {}
        other: dict[int, int] = {}
        for number in range(400):
            for sample, many in ((one, 1), (other, 3)):
                for _ in range(many):
                    value = round(16 * math.log2(draw.lognormvariate(0, 1)))
                    sample[value] = sample.get(value, 0) + 1
            if number % 4 == 0 and rank(one, other).evidence_of_larger >= math.log(10):
                alarms += 1
                break
    assert alarms / 300 <= 0.1


@given(st.dictionaries(st.integers(-50, 50), st.integers(1, 9), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_reached_by_its_share_of_the_values(counts, share):
    found = quantile(counts, share)
    total = sum(counts.values())
    assert sum(count for value, count in counts.items() if value <= found) >= share * total - 1e-9
    assert sum(count for value, count in counts.items() if value < found) < share * total


def test_nothing_has_no_quantile():
    assert quantile({}, 0.5) is None
