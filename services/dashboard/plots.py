"""Plots: lines over time with thresholds. The template `plot.html` draws one as SVG, with the table behind it.

The drawing is stretched to the width of the page, so its texts are outside of it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bisnesctl.series.reading import Values, Window

#: The size of a drawing, in its own units.
WIDTH, HEIGHT = 1000, 100
#: The highest value of a plot, at least: below it, all is nothing.
SMALLEST_TOP = 1e-6
#: Lines that have a colour of their own.
MAX_LINES = 8


@dataclass(frozen=True)
class Line:
    """One series."""

    label: str
    values: Values

    @property
    def latest(self) -> float | None:
        """The last value that is known."""
        return next((each for each in reversed(self.values) if each is not None), None)

    @cached_property
    def highest(self) -> float | None:
        """The highest value."""
        return max((each for each in self.values if each is not None), default=None)


@dataclass(frozen=True)
class Threshold:
    """A value from which on something is wrong."""

    #: `warning`, `critical` or `limit`.
    kind: str
    value: float


@dataclass(frozen=True)
class Plot:
    """One plot."""

    #: Its name among the texts.
    name: str
    window: Window
    lines: Sequence[Line]
    #: A value for people.
    shown: Callable[[float], str]
    thresholds: Sequence[Threshold] = ()
    #: Times of events, in seconds since the epoch.
    marks: Sequence[float] = field(default=())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return all(each.highest is None for each in self.lines)

    @cached_property
    def top(self) -> float:
        """The highest value that has room. The first threshold and a limit always have, others if values come near."""
        highest = max((each.highest or 0.0 for each in self.lines), default=0.0)
        ordered = sorted(self.thresholds, key=lambda each: each.value)
        seen = [
            each.value
            for number, each in enumerate(ordered)
            if number == 0 or each.kind == "limit" or highest >= ordered[number - 1].value
        ]
        return _rounded_up(max([highest, *(1.05 * each for each in seen)]) or 1.0)

    @property
    def visible_thresholds(self) -> Sequence[Threshold]:
        """Those that have room."""
        return [each for each in self.thresholds if each.value <= self.top]

    def height(self, value: float) -> float:
        """The place of a value, from above."""
        return round(HEIGHT * (1 - value / self.top), 1)

    def place(self, at: float) -> float:
        """The place of a time, from the left."""
        return round(WIDTH * (at - self.window.begin) / (self.window.end - self.window.begin), 1)

    @property
    def visible_marks(self) -> Sequence[float]:
        """The places of events within the window."""
        return [self.place(each) for each in self.marks if self.window.begin <= each <= self.window.end]

    def path(self, line: Line) -> str:
        """The drawing of a line, with a gap where nothing is known."""
        step = WIDTH / self.window.count
        parts, is_drawing = [], False
        for number, value in enumerate(line.values):
            if value is not None:
                parts.append(f"{'L' if is_drawing else 'M'}{(number + 0.5) * step:.0f} {self.height(value):g}")
                if not is_drawing:
                    parts.append("h0")  # a single value is a dot
            is_drawing = value is not None
        return "".join(parts)

    @property
    def rows(self) -> list[tuple[float, list[float | None]]]:
        """The table: the begin of each interval and the values, the newest first; without intervals that have none."""
        found = zip(self.window.starts, zip(*(each.values for each in self.lines), strict=True), strict=True)
        return [(at, list(values)) for at, values in reversed(list(found)) if any(each is not None for each in values)]


def _rounded_up(value: float) -> float:
    """The next value of the form 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, SMALLEST_TOP)))
    steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
    return next(step for step in steps if step * power >= value * 0.999999) * power


def in_short(value: float) -> str:
    """A number with the digits that matter."""
    if value >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2g}"
