"""Counters become rates: nothing is lost, a new beginning is no fall, and a long silence is a gap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.series import reading
from bisnesctl.series.reading import Window, growth

WINDOW = Window(begin=1_700_000_000.0, step=120.0, count=30)


def edge(number: int) -> float:
    return WINDOW.begin + number * WINDOW.step


@given(st.lists(st.integers(0, 500), min_size=31, max_size=31), st.floats(0, 59))
def test_regular_rows_give_rates_that_add_up_to_the_growth(steps: list[int], delay: float) -> None:
    total, samples = 0, {}
    for number, step in enumerate(steps):
        total += step
        samples[number] = (edge(number) - delay, float(total))
    found = growth(WINDOW, samples)
    assert None not in found
    assert sum(each or 0 for each in found) * WINDOW.step / 60 == pytest.approx(total - steps[0])


@given(st.dictionaries(st.integers(0, 30), st.tuples(st.floats(0, 119), st.integers(0, 10**9)), max_size=31))
def test_no_rate_is_negative_and_there_is_one_for_each_interval(rows: dict[int, tuple[float, int]]) -> None:
    known, samples = None, {}
    for number in range(31):
        if number in rows:
            known = (edge(number) - rows[number][0], float(rows[number][1]))
        if known is not None:
            samples[number] = known
    found = growth(WINDOW, samples)
    assert len(found) == WINDOW.count
    assert all(each is None or each >= 0 for each in found)


def test_a_row_between_two_edges_counts_for_all_intervals_since_the_row_before() -> None:
    samples = {0: (edge(0), 0.0), 1: (edge(0), 0.0), 2: (edge(2), 240.0), 3: (edge(3), 240.0)}
    assert growth(WINDOW, samples)[:4] == [60.0, 60.0, 0.0, None]


def test_a_counter_that_began_again_counts_from_zero() -> None:
    assert growth(WINDOW, {0: (edge(0), 5000.0), 1: (edge(1), 20.0)})[0] == 10.0


def test_a_long_silence_is_a_gap() -> None:
    samples = {number: (edge(0), 7.0) for number in range(20)} | {20: (edge(20), 7.0 + 2 * 2400)}
    found = growth(WINDOW, samples)
    assert found[:19] == [None] * 19
    assert found[19] == 120.0


@pytest.mark.parametrize("span", reading.SPANS)
def test_a_window_ends_now_and_stays_for_a_minute(span: str) -> None:
    now = 1_700_000_030.0
    found = reading.window(span, now)
    assert 0 <= found.end - now < 60
    assert found == reading.window(span, found.end - 0.5)
    assert len(found.starts) == found.count
