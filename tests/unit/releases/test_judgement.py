"""When a release counts as worse than the one before."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.releases.judgement import (
    CHANCE,
    MARGIN,
    Counts,
    OwnRequest,
    judge_answers,
    judge_messages,
    judge_own_requests,
    too_many,
)

GOOD = Counts(total=10_000, failed=5, seconds=100.0)
_SLOW, _QUICK = OwnRequest("", 1.2), OwnRequest("", 0.01)
_REFUSED = OwnRequest("it answered 500", 0.01)


@pytest.mark.parametrize(
    ("before", "now", "is_at_fault"),
    [
        (GOOD, Counts(1000, 0), False),
        (GOOD, Counts(1000, 5), False),  # within the margin
        (GOOD, Counts(1000, 60), True),
        (GOOD, Counts(4, 4), False),  # too few
        (GOOD, Counts(5, 5), True),
        (GOOD, Counts(0, 8), True),  # only failures were counted
        (Counts(1000, 300), Counts(1000, 290), False),  # the release before is as bad
        (Counts(1000, 300), Counts(1000, 400), True),
        (Counts(10, 10), Counts(10, 10), False),
        (Counts(), Counts(100, 50), True),
    ],
)
def test_failures_are_judged_beside_those_before(before, now, is_at_fault):
    assert too_many(before, now) == is_at_fault
    assert bool(judge_answers("api", before, now)) == is_at_fault
    assert bool(judge_messages("meta-worker", before, now)) == is_at_fault


@given(total=st.integers(1, 5000), failed=st.integers(0, 5000), more=st.integers(1, 500), before=st.floats(0, 0.9))
def test_more_failures_are_never_judged_better(total, failed, more, before):
    earlier = Counts(10_000, int(10_000 * before))
    failed = min(failed, total)
    if too_many(earlier, Counts(total, failed)):
        assert too_many(earlier, Counts(total, min(failed + more, total)))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2])
def test_false_alarms_are_as_rare_as_stated(share):
    chooser, alarms, looks = random.Random(7), 0, 20_000
    for _ in range(looks):
        total = chooser.choice((30, 200, 800))
        failed = (
            sum(chooser.random() < share + MARGIN for _ in range(total))
            if total == 30
            else int(chooser.gauss(total * (share + MARGIN), (total * (share + MARGIN) * (1 - share - MARGIN)) ** 0.5))
        )
        alarms += too_many(Counts(1000, int(1000 * share)), Counts(total, max(failed, 0)))
    assert alarms <= 5 * CHANCE * looks


@pytest.mark.parametrize(
    ("before", "now", "is_at_fault"),
    [
        (Counts(100, 0, 1.0), Counts(100, 0, 1.5), False),
        (Counts(100, 0, 1.0), Counts(100, 0, 50.0), True),
        (Counts(100, 0, 1.0), Counts(100, 0, 15.0), False),  # many times as long, but nobody notices
        (Counts(100, 0, 50.0), Counts(100, 0, 90.0), False),
        (Counts(100, 0, 1.0), Counts(3, 0, 30.0), False),  # too few
        (Counts(), Counts(100, 0, 500.0), False),  # nothing to compare with
    ],
)
def test_slow_answers_are_judged_by_a_factor_and_a_difference(before, now, is_at_fault):
    assert bool(judge_answers("api", before, now)) == is_at_fault


@pytest.mark.parametrize(
    ("before", "now", "fault"),
    [
        ([_QUICK] * 5, [_QUICK] * 5, ""),
        ([_QUICK] * 5, [*[_QUICK] * 9, _REFUSED, _REFUSED], ""),
        ([_QUICK] * 5, [*[_QUICK] * 9, _REFUSED, _REFUSED, _REFUSED], "it answered 500"),
        ([_REFUSED] * 5, [_REFUSED] * 5, ""),  # it did not work before either
        ([_QUICK] * 5, [_SLOW] * 4, ""),  # too few
        ([_QUICK] * 5, [_SLOW] * 5, "1200 ms"),
        ([_SLOW] * 5, [_SLOW] * 5, ""),
    ],
)
def test_the_own_requests_of_the_watch_are_judged_by_the_last_ones(before, now, fault):
    found = judge_own_requests(before, now)
    assert fault in found
    assert bool(found) == bool(fault)
