"""Tables that lose nothing in a narrow terminal: cells without room in their row are listed below it, with titles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

#: Columns of the terminal between two cells.
_GAP = 2
#: Columns of the terminal that a cell which wraps needs; with less, it goes below its row.
WRAPPED_WIDTH = 40
#: Columns of the terminal by which cells below a row are indented.
_INDENT = 4
#: Cells that say nothing.
_EMPTY = ("", "-")


@dataclass(frozen=True)
class Column:
    """One column of a table. `from_width`: the narrowest terminal, in columns, that shows it beside the others."""

    title: str
    justify: Literal["left", "right"] = "left"
    from_width: int = 0
    wraps: bool = False


def show(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> None:
    """Prints a table."""
    beside = _beside(columns, rows, console.width)
    below = [index for index in range(len(columns)) if index not in beside]
    if not below:
        console.print(_table(columns, rows, beside))
        return
    widths = [max(row[index].cell_len for row in [_titles(columns), *rows]) for index in range(len(columns))]
    console.print(_line(_titles(columns), columns, beside, widths), soft_wrap=True)
    for row in rows:
        console.print(_line(row, columns, beside, widths), soft_wrap=True)
        details = [Text.assemble((f"{columns[index].title or 'note'}: ", "dim"), row[index])
                   for index in below if row[index].plain not in _EMPTY]  # fmt: skip
        if details:
            console.print(Padding(Text(", ").join(details), (0, 0, 0, _INDENT), expand=False))


def _beside(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> list[int]:
    """The columns that fit beside each other, without those that need a wider terminal."""
    chosen = [index for index, column in enumerate(columns) if column.from_width <= width]
    if _needed(columns, rows, chosen) <= width:
        return chosen
    return [index for index in chosen if not columns[index].wraps]


def _needed(columns: Sequence[Column], rows: Sequence[Sequence[Text]], chosen: Sequence[int]) -> int:
    total = -_GAP
    for index in chosen:
        longest = max((row[index].cell_len for row in rows), default=0)
        wanted = min(longest, WRAPPED_WIDTH) if columns[index].wraps else longest
        total += max(wanted, len(columns[index].title)) + _GAP
    return total


def _titles(columns: Sequence[Column]) -> list[Text]:
    return [Text(column.title, "bold") for column in columns]


def _line(row: Sequence[Text], columns: Sequence[Column], beside: Sequence[int], widths: Sequence[int]) -> Text:
    cells = []
    for index in beside:
        cell = row[index].copy()
        cell.align(columns[index].justify, widths[index])
        cells.append(cell)
    line = Text(" " * _GAP).join(cells)
    line.rstrip()
    return line


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Text]], beside: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for index in beside:
        column = columns[index]
        table.add_column(column.title, justify=column.justify, no_wrap=not column.wraps, overflow="fold")
    for row in rows:
        table.add_row(*(row[index] for index in beside))
    return table
