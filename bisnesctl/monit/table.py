"""The list of the live screen: the columns that fit into its width, their titles, and the lines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from bisnesctl import formatting
from bisnesctl.monit.rows import Level, Row, Sort
from bisnesctl.terminal import printable

#: The sign and the colour of each level, so that colours are not the only carrier of a meaning.
SIGNS = {
    Level.GOOD: ("✓", "green"),
    Level.IDLE: ("·", "dim"),
    Level.NOTICE: ("!", "yellow"),
    Level.BAD: ("✗", "red"),
}
#: Columns of the sign and the space behind it.
_SIGN = 2
#: Columns of a name and of a state, at least and at most. A longer one is cut.
_NAMES, _STATES = (8, 28), (5, 11)
#: Columns of a reason, at least.
_MIN_REASON = 16


class Column(StrEnum):
    """The columns that are left out of a narrow list, in the order in which they are shown."""

    UPTIME = "uptime"
    RESTARTS = "restart"
    CPU = "cpu"
    MEMORY = "memory"
    LIMIT = "limit"
    WAITING = "wait"


#: The width of each column, with the space before it, those first that a narrow list has too.
_WIDTHS = {
    Column.MEMORY: 8,
    Column.RESTARTS: 8,
    Column.CPU: 5,
    Column.WAITING: 5,
    Column.LIMIT: 8,
    Column.UPTIME: 9,
}
#: The order that a column shows.
_SORTS = {
    Column.RESTARTS: Sort.RESTARTS,
    Column.CPU: Sort.CPU,
    Column.MEMORY: Sort.MEMORY,
    Column.LIMIT: Sort.MEMORY,
    Column.WAITING: Sort.WAITING,
}


@dataclass(frozen=True)
class Columns:
    """The widths of the columns of a list."""

    name: int
    state: int
    shown: frozenset[Column]
    #: Columns of the reason; 0: it is not shown.
    reason: int = 0


def columns_for(rows: Sequence[Row], width: int) -> Columns:
    """The columns of a list of these rows, `width` columns wide. Names are shown before numbers."""
    name = _longest((each.name for each in rows), _NAMES)
    state = _longest((each.state for each in rows), _STATES)
    left = width - _SIGN - name - 1 - state
    shown = set()
    for each, columns in _WIDTHS.items():
        if columns > left:
            break
        shown.add(each)
        left -= columns
    if left < 0:
        name = max(name + left, _NAMES[0])
    wanted = max((cell_len(printable.one_line(each.reason)) for each in rows), default=0)
    reason = left - 2 if wanted and left - 2 >= _MIN_REASON and len(shown) == len(_WIDTHS) else 0
    return Columns(name, state, frozenset(shown), reason)


def title(sort: Sort, columns: Columns) -> Text:
    """The titles of the columns; that of the order is marked."""
    first = f"{'':{_SIGN}}{'name':<{columns.name}} {'state':<{columns.state}}"
    cells: list[tuple[Sort | None, str]] = [(Sort.NAME, first)]
    for each in Column:
        if each in columns.shown:
            words = f"{'/limit':<{_WIDTHS[each]}}" if each is Column.LIMIT else f"{each.value:>{_WIDTHS[each]}}"
            cells.append((_SORTS.get(each), words))
    parts = [(cell, "bold underline" if each is sort else "bold") for each, cell in cells]
    return Text.assemble(*parts, ("  reason" if columns.reason else "", "bold"), no_wrap=True)


def line(row: Row, columns: Columns) -> Text:
    """A row of the list."""
    sign, colour = SIGNS[row.level]
    # The end of a name tells it from others.
    found = Text.assemble(
        (f"{sign:<{_SIGN}}", colour), _fitted(row.name, columns.name, from_start=True),
        (f" {_fitted(row.state, columns.state)}", colour), no_wrap=True,
    )  # fmt: skip
    for each in Column:
        if each in columns.shown:
            words, style = _cell(each, row)
            found.append(f"{words:<{_WIDTHS[each]}}" if each is Column.LIMIT else f"{words:>{_WIDTHS[each]}}", style)
    if columns.reason:
        found.append(f"  {_fitted(row.reason, columns.reason)}".rstrip(), colour if row.level is not Level.GOOD else "")
    return found


def _cell(column: Column, row: Row) -> tuple[str, str]:
    """The words and the style of a cell."""
    match column:
        case Column.UPTIME:
            return "" if row.uptime_seconds is None else formatting.duration(row.uptime_seconds), ""
        case Column.RESTARTS:
            words = "" if row.is_bot else f"{row.recent_restarts}/{row.restarts}"
            return words, "yellow" if row.recent_restarts else ""
        case Column.CPU:
            return "" if row.cpu_percent is None else f"{row.cpu_percent:.0f}%", ""
        case Column.MEMORY:
            return "" if row.memory_bytes is None else formatting.size(row.memory_bytes), ""
        case Column.LIMIT:
            return f"/{formatting.size(row.memory_limit_bytes)}" if row.memory_limit_bytes else "", ""
        case Column.WAITING:
            return "" if row.waiting is None else _count(row.waiting), "bold" if row.waiting else ""


def _count(number: int) -> str:
    """A number in four columns."""
    return str(number) if number < 10_000 else f"{number // 1000}k"


def _longest(words: Iterable[str], limits: tuple[int, int]) -> int:
    least, most = limits
    return max(least, min(most, max((cell_len(printable.one_line(each)) for each in words), default=0)))


def _fitted(words: str, width: int, from_start: bool = False) -> str:
    """The words in exactly this width; what is cut is marked. `from_start`: cuts the beginning instead of the end."""
    text = rest = printable.one_line(words)
    if not from_start and cell_len(text) > width:
        return f"{set_cell_size(text, width - 1)}…"
    while cell_len(text) > width:
        rest = rest[1:]
        text = f"…{rest}"
    return set_cell_size(text, width)
