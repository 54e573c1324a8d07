"""The steps of a rollout and the order in which bots move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.errors import UsageError
from bisnesctl.rollout import plan
from bisnesctl.rollout.plan import Candidate, Step


def test_steps_are_shares_with_times():
    assert plan.parse_steps("10%:10m, 50%:1h30m,100%") == [Step(10, 600), Step(50, 5400), Step(100, 0)]
    assert plan.parse_steps("100%:90s") == [Step(100, 90)]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is no step"), ("10", "is no step"), ("10%:soon", "is no duration"), ("10%:10m,50%", "not 100%"),
        ("50%,10%,100%", "do not grow"), ("10%,10%,100%", "do not grow"), ("0%,100%", "above 0"),
        ("150%", "up to 100"), ("-5%,100%", "is no step"), ("10%:5,100%", "is no duration"),
    ],
)  # fmt: skip
def test_other_texts_are_refused_with_what_to_type(text, named):
    with pytest.raises(UsageError, match=named):
        plan.parse_steps(text)


@given(st.text(max_size=30))
def test_any_text_is_steps_or_refused(text):
    try:
        steps = plan.parse_steps(text)
    except UsageError:
        return
    assert steps[-1].percent == 100


@given(st.integers(0, 10_000), st.floats(0, 100))
def test_a_share_is_between_one_bot_and_all_but_one_unless_it_is_everything(bots, percent):
    found = plan.count(bots, percent)
    if percent == 0 or bots == 0:
        assert found == 0
    elif percent >= 100 or bots == 1:
        assert found == (bots if percent >= 100 else max(1, bots - 1))
    else:
        assert 1 <= found < bots
        assert found <= bots * percent / 100 + 1


def test_named_bots_move_first_then_test_numbers_then_the_least_busy():
    busy, calm, test, named = (
        Candidate(1, "0100/0", False, 500), Candidate(2, "0100/1", False, 3),
        Candidate(3, "0100/2", True, 900), Candidate(4, "0100/3", False, 1000),
    )  # fmt: skip
    assert plan.order([busy, calm, test, named], first=[4]) == [named, test, calm, busy]


@pytest.mark.parametrize(("before", "after"), [(5, 10), (10, 25), (30, 50), (50, 100), (100, 100)])
def test_an_operator_advances_to_the_next_share(before, after):
    assert plan.next_step(before) == Step(after)
