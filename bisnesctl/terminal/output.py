"""Output of the tool: results go to stdout, progress to stderr. Piped output is plain and not wrapped."""

import functools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Width of output to a pipe or a file, so that no line is wrapped.
PIPE_WIDTH_COLUMNS = 1000

Row = TypeVar("Row", bound=Any)  # a dataclass


@dataclass(frozen=True)
class Column:
    """One column of a table. `from_width`: the narrowest terminal, in columns, that shows it."""

    title: str
    justify: Literal["left", "right"] = "left"
    from_width: int = 0
    wraps: bool = False


@functools.cache
def out() -> Console:
    """The console for results."""
    return _console(stderr=False)


@functools.cache
def err() -> Console:
    """The console for progress and errors."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH_COLUMNS
    return console


def say(text: str) -> None:
    """Prints progress in one line, with markup such as `[b]`."""
    err().print(text, soft_wrap=True)


def result(text: str) -> None:
    """Prints a result without markup."""
    out().print(text, soft_wrap=True, markup=False)


def warn(message: str) -> None:
    """Prints a warning."""
    err().print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True)


def fail(message: str) -> None:
    """Prints an error."""
    err().print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def print_json(value: object) -> None:
    """Prints `value` as JSON."""
    out().print(json.dumps(value, indent=2, default=str), soft_wrap=True, markup=False)


def print_found(found: list[Row], as_json: bool, show: Callable[[list[Row]], None], none: str) -> None:
    """Prints the result of a list command: as JSON, with `show`, or the text `none` if it is empty.

    JSON lacks the fields that `repr` hides too: credentials.
    """
    if as_json:
        hidden = {each.name for each in fields(found[0]) if not each.repr} if found else set()
        print_json([{name: value for name, value in asdict(each).items() if name not in hidden} for each in found])
    elif found:
        show(found)
    else:
        say(none)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows of markup below the titles, without the columns that need a wider terminal."""
    shown = [index for index, column in enumerate(columns) if column.from_width <= out().width]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index in shown:
        column = columns[index]
        table.add_column(column.title, justify=column.justify, no_wrap=not column.wraps, overflow="fold")
    for row in rows:
        table.add_row(*(row[index] for index in shown))
    out().print(table)
