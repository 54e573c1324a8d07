"""Output of the tool: results go to stdout, progress to stderr. Piped output is plain and not wrapped.

All output goes through these consoles, which escape control characters (`printable`). Words of others that become part
of a line go through `escape`.
"""

import functools
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from rich import markup
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bisnesctl.terminal import printable, tables

#: Width of output to a pipe or a file, so that no line is wrapped.
PIPE_WIDTH_COLUMNS = 1000

Row = TypeVar("Row", bound=Any)  # a dataclass


Column = tables.Column


class SafeConsole(Console):
    """A console that prints control characters of any origin as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything that is printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable.lines(segment.text))


@functools.cache
def out() -> Console:
    """The console for results."""
    return _console(stderr=False)


@functools.cache
def err() -> Console:
    """The console for progress and errors."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    console = SafeConsole(stderr=stderr, highlight=False, soft_wrap=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH_COLUMNS
    return console


def is_piped() -> bool:
    """Whether results go to a pipe or a file, whose lines are not wrapped."""
    return out().width >= PIPE_WIDTH_COLUMNS


def print_indented(text: Text, indent: int) -> None:
    """Prints text whose lines begin `indent` columns further right; to a pipe it is one line."""
    room = max(out().width - indent, 1)
    text = text.copy()
    text.rstrip()
    for line in [text] if is_piped() or text.cell_len <= room else text.wrap(out(), room):
        line.rstrip()
        out().print(Text(" " * indent) + line, soft_wrap=True)


def escape(words: str) -> str:
    """Words of others as part of a line with markup: they cannot change its style or begin another line."""
    return markup.escape(printable.one_line(words))


def say(text: str) -> None:
    """Prints progress in one line, with markup such as `[b]`."""
    err().print(text, soft_wrap=True)


def result(text: str) -> None:
    """Prints a result without markup."""
    out().print(_plain(text), soft_wrap=True)


def _plain(text: str) -> Text:
    return Text(printable.lines(text))  # Text itself drops some control characters silently


def warn(message: str) -> None:
    """Prints a warning."""
    err().print(Text.assemble(("warning:", "yellow"), " ", _plain(message)), soft_wrap=True)


def fail(message: str) -> None:
    """Prints an error."""
    err().print(Text.assemble(("error:", "bold red"), " ", _plain(message)), soft_wrap=True)


def show_traceback(error: Exception) -> None:
    """Prints the traceback of an error."""
    err().print(_plain("".join(traceback.format_exception(error)).rstrip()), soft_wrap=True)


def print_json(value: object) -> None:
    """Prints `value` as JSON."""
    result(printable.as_json(value))


def rendered(text: Text) -> str:
    """The text with its colours, if the results have any, to be written by `write_lines`."""
    console = out()
    console.begin_capture()
    console.print(text, end="", soft_wrap=True)
    return console.end_capture()


def log_line(line: str) -> str:
    """A line of a log with its own colours, if the results have any, to be written by `write_lines`."""
    if printable.is_fit(line):
        return line
    if "\x1b" not in line:
        return printable.log_line(line)
    return rendered(Text.from_ansi(printable.log_line(line)))


def write_lines(lines: Iterable[str]) -> None:
    """Writes results that `rendered` and `log_line` made. A console takes a hundred times as long for a line."""
    file = out().file
    file.write("".join(f"{line}\n" for line in lines))
    file.flush()


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
    """Prints rows of markup below the titles. Cells for which the terminal is too narrow go below their row."""
    tables.show(out(), columns, [[Text.from_markup(cell, emoji=False) for cell in row] for row in rows])


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Prints titles and texts of markup, such as `wanted  it runs`; a long text continues below its beginning."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for title, text in pairs:
        grid.add_row(title, Text.from_markup(text, emoji=False))
    out().print(grid)
