"""Ranges of monitoring plugins."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bisnesctl.errors import UsageError
from bisnesctl.signals.ranges import Range, parse, plain

NUMBERS = st.floats(-1e9, 1e9).map(lambda each: round(each, 4))


@pytest.mark.parametrize(
    ("text", "fine", "alerting"),
    [
        ("10", [0, 5, 10], [-0.1, 10.1]),
        ("10:", [10, 1e9], [9.9, -5]),
        ("~:10", [-1e9, 10], [10.1]),
        ("10:20", [10, 15, 20], [9, 21]),
        ("@10:20", [9.99, 20.01], [10, 15, 20]),
        ("@10", [-1, 11], [0, 10]),
        ("-5:5", [-5, 0, 5], [-6, 6]),
        (":10", [0, 10], [-1, 11]),
        ("0.5", [0.5], [0.6]),
        ("0:", [0, 3], [-1]),
        ("~:", [-3, 3], []),
        ("1e3", [1000], [1001]),
    ],
)
def test_a_range_alerts_outside_of_it_or_inside(text: str, fine: list[float], alerting: list[float]) -> None:
    found = parse(text)
    assert [each for each in fine if found.alerts(each)] == []
    assert [each for each in alerting if not found.alerts(each)] == []


@pytest.mark.parametrize("text", ["", "@", ":", "@:", "x", "10:5", "10:20:30", "1 2", "~", "~10", "@@1", "nan", "inf"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no range"):
        parse(text)


@given(st.one_of(st.just(-math.inf), NUMBERS), st.one_of(st.just(math.inf), NUMBERS), st.booleans())
def test_a_range_reads_as_it_is_written(low: float, high: float, inside: bool) -> None:
    made = Range(min(low, high), max(low, high), inside)
    assert parse(str(made)) == made


@given(NUMBERS, NUMBERS, NUMBERS, st.booleans())
def test_a_value_alerts_in_exactly_one_of_a_range_and_its_opposite(
    low: float, high: float, value: float, inside: bool
) -> None:
    low, high = min(low, high), max(low, high)
    assert Range(low, high, inside).alerts(value) != Range(low, high, not inside).alerts(value)
    assert not Range(low, high, inside).alerts(math.nan)


@given(st.text(alphabet="0123456789.:@~-+eE ", max_size=12))
@example("9e999:")
@example("1:9e999")
@example("-9e999:")
def test_any_text_is_a_range_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except UsageError:
        return
    assert found.low <= found.high
    assert parse(str(found)) == found


@pytest.mark.parametrize(
    ("value", "text"), [(10, "10"), (10.0, "10"), (0.5, "0.5"), (-3.0, "-3"), (math.inf, "inf"), (1e20, "1e+20")]
)
def test_a_number_is_as_short_as_it_can_be(value, text):
    assert plain(value) == text
