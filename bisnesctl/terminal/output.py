"""How the tool writes: results to stdout, what happens meanwhile to stderr. Plain and unbroken when piped."""

import functools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Columns of a line that goes into a pipe or a file, where nobody's window is in the way.
PIPE_WIDTH = 1000

Row = TypeVar("Row", bound=Any)  # a dataclass


@dataclass(frozen=True)
class Column:
    """One column of a table. `from_width`: the terminal's columns from which on it is shown."""

    title: str
    justify: Literal["left", "right"] = "left"
    from_width: int = 0
    wraps: bool = False


@functools.cache
def out() -> Console:
    """The console of results."""
    return _console(stderr=False)


@functools.cache
def err() -> Console:
    """The console of progress and errors."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def say(text: str) -> None:
    """Says what was done or is going on, in one line; markup such as `[b]` counts."""
    err().print(text, soft_wrap=True)


def result(text: str) -> None:
    """Prints what was asked for, as it is."""
    out().print(text, soft_wrap=True, markup=False)


def fail(message: str) -> None:
    """Prints an error."""
    err().print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def print_json(value: object) -> None:
    """Prints `value` as JSON for other programs."""
    out().print(json.dumps(value, indent=2, default=str), soft_wrap=True, markup=False)


def print_found(found: list[Row], as_json: bool, show: Callable[[list[Row]], None], none: str) -> None:
    """Prints what a list command found: as JSON, by `show`, or `none` where there is nothing."""
    if as_json:
        print_json([asdict(each) for each in found])
    elif found:
        show(found)
    else:
        say(none)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows of markup under their titles; columns that this terminal is too narrow for are left out."""
    shown = [index for index, column in enumerate(columns) if column.from_width <= out().width]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index in shown:
        column = columns[index]
        table.add_column(column.title, justify=column.justify, no_wrap=not column.wraps, overflow="fold")
    for row in rows:
        table.add_row(*(row[index] for index in shown))
    out().print(table)
