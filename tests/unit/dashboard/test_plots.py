"""Plots: every value has room, gaps stay gaps, and a threshold is drawn where values come near."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bisnesctl.series.reading import Window
from services.dashboard.plots import HEIGHT, WIDTH, Line, Plot, Threshold, in_short

WINDOW = Window(1_700_000_000.0, 60.0, 8)
VALUES = st.lists(st.none() | st.floats(0, 1e12), min_size=8, max_size=8)


def plot(*lines: Line, thresholds: tuple[Threshold, ...] = (), marks: tuple[float, ...] = ()) -> Plot:
    return Plot("messages", WINDOW, lines, in_short, thresholds, marks)


@given(VALUES)
@example([5e-324, *[None] * 7])
def test_every_known_value_is_drawn_within_the_plot(values: list[float | None]) -> None:
    line = Line("x", values)
    made = plot(line)
    points = re.findall(r"[ML](\d+) ([\d.e+-]+)", made.path(line))
    assert len(points) == sum(each is not None for each in values)
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in points)
    gaps = sum(a is None and b is not None for a, b in zip([None, *values], values, strict=False))
    assert made.path(line).count("M") == gaps
    assert made.is_empty is (not points)
    assert len(made.rows) == len(points)


@pytest.mark.parametrize(("highest", "drawn"), [(1.0, ["warning"]), (130.0, ["warning", "critical"])])
def test_the_next_threshold_is_always_seen(highest: float, drawn: list[str]) -> None:
    made = plot(Line("x", [highest] * 8), thresholds=(Threshold("warning", 120), Threshold("critical", 600)))
    assert [each.kind for each in made.visible_thresholds] == drawn
    assert all(0 <= made.height(each.value) <= HEIGHT for each in made.visible_thresholds)


def test_a_limit_is_always_seen() -> None:
    made = plot(Line("x", [1.0] * 8), thresholds=(Threshold("warning", 85), Threshold("limit", 100)))
    assert [each.kind for each in made.visible_thresholds] == ["warning", "limit"]


def test_marks_outside_of_the_window_are_not_drawn() -> None:
    made = plot(Line("x", [1.0] * 8), marks=(WINDOW.begin - 1, WINDOW.begin + 240, WINDOW.end + 1))
    assert list(made.visible_marks) == [WIDTH / 2]


def test_the_table_has_the_newest_first_and_no_empty_rows() -> None:
    made = plot(Line("a", [1.0, None, 3.0, *[None] * 5]), Line("b", [None, None, 4.0, *[None] * 5]))
    assert made.rows == [(WINDOW.begin + 120, [3.0, 4.0]), (WINDOW.begin, [1.0, None])]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (12.0, "12"), (0.1234, "0.12"), (12.34, "12.3"), (12345.6, "12,346")]
)
def test_a_number_has_the_digits_that_matter(value: float, shown: str) -> None:
    assert in_short(value) == shown
