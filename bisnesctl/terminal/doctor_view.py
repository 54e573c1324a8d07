"""Shows the results of `bisnesctl doctor`: problems last, where they are seen, with what should be and what to type."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bisnesctl.doctor.finding import Level
from bisnesctl.doctor.runner import Result
from bisnesctl.terminal import output, printable

#: The worst comes last.
_ORDER = (Level.OK, Level.WARNING, Level.ERROR)
_MARKS = {
    Level.OK: ("✓", "green"),
    Level.WARNING: ("!", "yellow"),
    Level.ERROR: ("✗", "bold red"),
}


def plain(results: Sequence[Result]) -> dict[str, Any]:
    """The results as documented in the reference of the checks."""
    return {
        "ok": not any(each.finding.level is Level.ERROR for each in results),
        "checks": [
            {
                "name": each.check.name,
                "level": each.finding.level.value,
                "found": each.finding.found,
                "wanted": each.finding.wanted or None,
                "fix": each.finding.fix or None,
            }
            for each in results
        ],
    }


def show(results: Sequence[Result]) -> None:
    """Prints what was not checked, what is as it should be, then warnings and errors, and the number of each."""
    grid = Table.grid(padding=(0, 1))
    for _ in range(2):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for reason, names in _skipped(results).items():
        grid.add_row(Text("-", "dim"), Text("not checked", "dim"), Text(f"{', '.join(names)}: {reason}", "dim"))
    shown = [each for each in results if each.finding.level is not Level.SKIPPED]
    for each in sorted(shown, key=lambda each: _ORDER.index(each.finding.level)):
        mark, style = _MARKS[each.finding.level]
        grid.add_row(Text(mark, style), Text(each.check.name, style), _finding(each))
    output.out().print(grid)
    counts = Counter(each.finding.level for each in results)
    parts = ((Level.ERROR, "error"), (Level.WARNING, "warning"), (Level.OK, "ok"), (Level.SKIPPED, "not checked"))
    total = ", ".join(_count(counts[level], word) for level, word in parts if counts[level])
    output.out().print(Padding(Text(total), (1, 0, 0, 0)))


def _skipped(results: Sequence[Result]) -> dict[str, list[str]]:
    """The names of checks that were not made, by their reason."""
    found: dict[str, list[str]] = {}
    for each in results:
        if each.finding.level is Level.SKIPPED:
            found.setdefault(printable.one_line(each.finding.found), []).append(each.check.name)
    return found


def _finding(result: Result) -> Text:
    finding = result.finding
    text = Text(printable.one_line(finding.found))
    if finding.wanted:
        text.append(f"\nshould be: {printable.one_line(finding.wanted)}")
    if finding.fix:
        text.append("\nfix: ").append(printable.one_line(finding.fix), "bold")
    return text


def _count(number: int, word: str) -> str:
    return f"{number} {word}s" if number != 1 and word in ("error", "warning") else f"{number} {word}"
