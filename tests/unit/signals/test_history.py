"""The history of values: what is kept, growth, and forecasts."""

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.signals import history

NOW = 1_700_000_000.0
AGES = st.lists(st.floats(0, 5 * 86400), max_size=200).map(lambda each: sorted(each, reverse=True))


@given(AGES)
def test_samples_are_ordered_young_enough_and_few(ages: list[float]) -> None:
    found: dict[str, list[history.Sample]] = {}
    for age in ages:
        found = history.add(found, {"x": age}, NOW - age)
    samples = history.add(found, {}, NOW).get("x", [])
    times = [at for at, _ in samples]
    assert times == sorted(times)
    assert all(NOW - at < history.KEPT_SECONDS for at in times)
    assert all(later - earlier >= history.SAMPLE_SECONDS for earlier, later in itertools.pairwise(times))


def test_a_value_of_the_last_minute_is_not_repeated() -> None:
    found = history.add({}, {"x": 1.0}, NOW)
    assert history.add(found, {"x": 2.0}, NOW + 30) == {"x": [(NOW, 1.0)]}
    assert history.add(found, {"x": 2.0}, NOW + 60) == {"x": [(NOW, 1.0), (NOW + 60, 2.0)]}


@given(st.floats(-1e6, 1e6), st.floats(1, 1e9))
def test_the_slope_of_a_line_is_found(slope: float, start: float) -> None:
    samples = [(NOW + at, start + slope * at) for at in range(0, 3600, 60)]
    found = history.slope(samples)
    assert found is not None
    assert math.isclose(found, slope, rel_tol=1e-3, abs_tol=1e-3)


def test_a_disk_that_fills_is_foreseen() -> None:
    samples = [(NOW + at, 10_000.0 - at) for at in range(0, 3601, 60)]
    left = history.empty_in(samples)
    assert left is not None
    assert math.isclose(left, 6400, rel_tol=0.01)


def test_a_burst_is_no_trend() -> None:
    assert history.empty_in([(NOW + at, 10_000.0 - at) for at in range(0, 3000, 60)]) is None


@pytest.mark.parametrize("change", [0.0, 1.0, -1e-9])
def test_a_disk_that_does_not_fill_has_no_forecast(change: float) -> None:
    assert history.empty_in([(NOW + at, 10_000.0 + change * at) for at in range(0, 7200, 60)]) is None


def test_too_few_samples_say_nothing() -> None:
    assert history.slope([(NOW + at, 5.0 - at) for at in range(4)]) is None
    assert history.slope([(NOW + at, 5.0 - at) for at in range(10)]) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}', '{"x": [[1]]}', "null"])
def test_a_damaged_file_is_an_empty_history(tmp_path: Path, text: str) -> None:
    (tmp_path / history.HISTORY_FILE).write_text(text)
    assert history.read(tmp_path) == {}
