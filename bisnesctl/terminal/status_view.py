"""Shows the content of `bisnesctl status` in any width: what matters and has no room goes below its row."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from bisnesctl import formatting
from bisnesctl.errors import UsageError
from bisnesctl.naming import ALERTS
from bisnesctl.processes.topology import Kind
from bisnesctl.terminal import output, printable
from bisnesctl.terminal.output import escape
from bisnesctl.views.machine import DiskUse
from bisnesctl.views.overview import Overview, ProcessRow, waits_ever

#: Columns of the terminal between two cells, and by which lines below a row are indented.
_GAP, _INDENT = 2, 4
#: Columns of the terminal that a reason needs beside its row; with less, it goes below.
_REASON_WIDTH = 44
#: Healthy sessions in the same state that are listed one by one, at most.
MAX_SESSIONS = 5
#: Bots that are listed, at most.
MAX_BOTS = 12
#: Seconds without a heartbeat of the evaluator of alerts after which it counts as dead.
_LONG_SILENCE_SECONDS = 60.0
_COLOURS = {
    "healthy": "green",
    "stopped": "dim",
    **dict.fromkeys(("outdated", "extra", "degraded", "starting", "stopping"), "yellow"),
}
#: The colours of bots' statuses; all others are red.
_BOT_COLOURS = {"warning": "yellow", "unlinked": "yellow", "stopped": "yellow", "paused": "yellow", "note": "dim"}
_CONDITIONS = {
    "stopping": "stopping",
    "stopped": "stopped on purpose: [b]{command}[/]",
    "died": "[red]not running[/], although it was not stopped on purpose: [b]{command}[/]",
    "silent": "[red]supervisord does not answer[/]: [b]bisnesctl stop[/] ends it",
}


@dataclass(frozen=True)
class StatusColumn:
    """A column of the table."""

    name: str
    cell: Callable[[ProcessRow, bool], str]
    right: bool = False
    #: The narrowest terminal that shows it without being asked.
    from_width: int = 0
    #: Whether a row's cell matters, so that it goes below the row if the column has no room.
    matters: Callable[[ProcessRow], bool] = lambda row: False


def _uptime(row: ProcessRow, known: bool) -> str:
    return formatting.duration(row.uptime_seconds)


def _memory(row: ProcessRow, known: bool) -> str:
    if row.memory_limit_bytes is None or row.memory_bytes is None:
        return formatting.size(row.memory_bytes)
    return f"{row.memory_bytes / 2**20:.0f}/{row.memory_limit_bytes / 2**20:.0f} MB"


def _waiting(row: ProcessRow, known: bool) -> str:
    if row.waiting is not None:
        return str(row.waiting)
    return "-" if known or not waits_ever(row.program) else "?"


def _oldest(row: ProcessRow, known: bool) -> str:
    if row.waiting is None:
        return _waiting(row, known)
    return formatting.duration(row.oldest_seconds)


def _session(row: ProcessRow) -> str:
    """The state of the session, and the phone number that it is linked to."""
    return " ".join(filter(None, (row.session, row.linked_number))) or "-"


#: All columns, in their order on the screen.
COLUMNS = (
    StatusColumn("name", lambda row, known: row.name),
    StatusColumn("program", lambda row, known: row.program, from_width=10_000),
    StatusColumn("kind", lambda row, known: row.kind, from_width=10_000),
    StatusColumn("wanted", lambda row, known: row.wanted, from_width=120, matters=lambda row: _differs(row)),
    StatusColumn("state", lambda row, known: row.state, from_width=120, matters=lambda row: _differs(row)),
    StatusColumn("health", lambda row, known: row.status, matters=lambda row: True),
    StatusColumn("session", lambda row, known: _session(row), from_width=160,
                 matters=lambda row: row.session not in (None, "WORKING")),
    StatusColumn("pid", lambda row, known: str(row.pid or "-"), right=True),
    StatusColumn("uptime", _uptime, right=True),
    StatusColumn("restarts", lambda row, known: f"{row.recent_restarts}/{row.restarts}", right=True,
                 matters=lambda row: bool(row.restarts or row.recent_restarts)),
    StatusColumn("cpu", lambda row, known: "-" if row.cpu_percent is None else f"{row.cpu_percent:.0f} %", right=True),
    StatusColumn("memory", _memory, right=True),
    StatusColumn("waiting", _waiting, right=True, matters=lambda row: bool(row.waiting)),
    StatusColumn("oldest", _oldest, right=True, from_width=100, matters=lambda row: bool(row.waiting)),
    StatusColumn("release", lambda row, known: row.release or "-", from_width=10_000),
    StatusColumn("reason", lambda row, known: row.reason, matters=lambda row: bool(row.reason)),
)  # fmt: skip
#: The columns that are left out first if the terminal is narrow.
_LEFT_OUT_FIRST = ("release", "kind", "program", "session", "wanted", "state", "oldest", "pid", "cpu", "waiting",
                   "memory", "restarts", "uptime", "health")  # fmt: skip


def columns_named(text: str) -> list[StatusColumn]:
    """The columns in `name,cpu,reason`. Raises `UsageError` that lists those that there are."""
    known = {each.name: each for each in COLUMNS}
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"--columns: unknown {', '.join(unknown) or 'names'}. There are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def show(found: Overview, chosen: Sequence[StatusColumn] | None = None, every: bool = False) -> None:
    """Prints the whole; nothing if nothing was ever started.

    `chosen`: the columns, regardless of the width; `every`: fold nothing.
    """
    for line in _header(found):
        output.out().print(line, soft_wrap=output.is_piped())
    if found.processes:
        _show_table(found, chosen, every)
    _show_bots(found, every)


# --- The header ------------------------------------------------------------------------------------------------------


def _header(found: Overview) -> Iterable[str]:
    if found.failed_start is not None:
        failed = found.failed_start
        yield f"{escape(found.home)}: [red]not running[/], {escape(failed.text)}: [b]{escape(failed.command)}[/]"
        if found.condition == "new":
            return
    elif found.condition == "new":
        return
    elif found.condition != "running":
        yield f"{escape(found.home)}: {_CONDITIONS[found.condition].format(command=escape(found.start_command))}"
    else:
        since = f", for {formatting.duration(time.time() - found.since)}" if found.since else ""
        both = f"{found.mode} and the other side" if found.beside else str(found.mode)
        mode = f"{both}, sandbox" if found.sandbox else both
        yield (
            f"[b]{mode}[/]{since}; release {escape(found.release)}; home {escape(found.home)}; supervisord "
            f"{found.supervisor_pid}"
        )
    yield _machine(found)
    yield _watchers(found)
    if found.rollout:
        yield f"[yellow]{escape(found.rollout)}[/]"
    for trouble in found.disks:
        yield f"[red]disk {escape(trouble.mount)}[/]: {escape(trouble.reason)}"
    if found.database_unavailable:
        reason = escape(found.database_unavailable)
        yield f"[red]PostgreSQL was not read in full[/] (? is unknown, and bots may be missing): {reason}"
    if found.retention_late:
        yield f"[yellow]old rows[/] {escape(found.retention_late)} ([b]bisnesctl clean-up[/])"
    for each in found.drift:
        yield f"[yellow]drift[/]: {escape(each.text)} ([b]{escape(each.step)}[/])"


def _machine(found: Overview) -> str:
    machine = found.machine
    load = " ".join(f"{each:.1f}" for each in machine.load)
    processors = "1 processor" if machine.processors == 1 else f"{machine.processors} processors"
    used = f"{formatting.size(machine.memory_used_bytes)} of {formatting.size(machine.memory_total_bytes)}"
    parts = [f"host {escape(machine.host)}", f"load {load} of {processors}", f"memory {used}"]
    return "; ".join([*parts, *map(_disk, machine.disks)])


def _disk(disk: DiskUse) -> str:
    if disk.free_bytes is None:
        return f"disk {escape(disk.mount)} ?"
    full = f", [yellow]full in about {formatting.duration(disk.full_in_seconds)}[/]" if disk.full_in_seconds else ""
    size = f"{formatting.size(disk.free_bytes)} free of {formatting.size(disk.total_bytes)}"
    return f"disk {escape(disk.mount)} {size}{full}"


def _watchers(found: Overview) -> str:
    running = found.condition == "running"
    parts = [f"guard {_seen(found.guard_seen_seconds, running)}"]
    if found.has_alerts:
        parts.append(f"alerts {_seen(found.alerts_seen_seconds, running)}")
    if found.has_alerts and running and _is_silent(found):
        parts.append("[red]nothing sends alerts[/]")
    return "; ".join(parts)


def _is_silent(found: Overview) -> bool:
    """Whether the evaluator of alerts does not run, or gives no sign of life."""
    stopped = any(each.name == ALERTS and each.state not in ("running", "starting") for each in found.processes)
    return stopped or found.alerts_seen_seconds is None or found.alerts_seen_seconds > _LONG_SILENCE_SECONDS


def _seen(seconds: float | None, running: bool) -> str:
    """When a watcher was seen last. Half a minute of silence is much for one that gives a sign of life each second."""
    if seconds is None:
        return "[red]never seen[/]" if running else "never seen"
    text = f"seen {formatting.duration(seconds)} ago"
    return f"[red]{text}[/]" if running and seconds > 30 else text


# --- The table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    #: Beside each other, with their widths.
    beside: dict[str, int]
    #: Asked for, or usual, but without room.
    below: list[StatusColumn]
    #: Whether reasons are shown, and whether as the last cell of their rows.
    has_reason: bool
    reason_beside: bool
    #: Whether the columns were asked for, so that each is shown.
    is_chosen: bool


def _show_table(found: Overview, chosen: Sequence[StatusColumn] | None, every: bool) -> None:
    known = not found.database_unavailable
    groups = [(kind, [row for row in found.processes if row.kind == kind.value]) for kind in Kind]
    folded = {kind: _fold(rows, every) if kind is Kind.SESSIONS else (rows, []) for kind, rows in groups if rows}
    rows = [row for shown, _ in folded.values() for row in shown]
    layout = _layout(rows, known, chosen)
    output.out().print()
    output.print_indented(_line({name: Text(name, "bold") for name in layout.beside}, layout, "reason"), 0)
    for kind, (shown, lines) in folded.items():
        if len(folded) > 1:
            output.out().print(Text(kind.value, "dim"))
        for row in shown:
            _show_row(row, layout, known)
        for line in lines:
            output.out().print(line)
    _show_left_out(layout)


def _fold(rows: list[ProcessRow], every: bool) -> tuple[list[ProcessRow], list[str]]:
    """The sessions to list, and a line for each state in which many are healthy."""
    quiet: dict[str, list[ProcessRow]] = {}
    for row in rows:
        if row.status == "healthy" and not row.recent_restarts and not row.waiting:
            quiet.setdefault(row.session or "", []).append(row)
    many = {state: each for state, each in quiet.items() if len(each) > MAX_SESSIONS and not every}
    hidden = {row.name for each in many.values() for row in each}
    return [row for row in rows if row.name not in hidden], [_folded(state, each) for state, each in many.items()]


def _folded(state: str, rows: Sequence[ProcessRow]) -> str:
    used = formatting.size(sum(row.memory_bytes or 0 for row in rows))
    busy = sum(row.cpu_percent or 0 for row in rows)
    word = f", {state}" if state not in ("", "WORKING") else ""
    return f"[green]{len(rows)} sessions healthy[/]{word} ({used}, cpu {busy:.0f} %; [b]--all[/] lists them)"


def _layout(rows: Sequence[ProcessRow], known: bool, chosen: Sequence[StatusColumn] | None) -> _Layout:
    width = output.out().width
    usual = [each for each in COLUMNS if each.from_width < 10_000]
    wanted = [each for each in chosen or usual if each.name != "reason"]
    has_reason = chosen is None or any(each.name == "reason" for each in chosen)
    widths = {
        each.name: max(len(each.name), *(cell_len(printable.one_line(each.cell(row, known))) for row in rows), 0)
        for each in wanted
    }
    beside = [each for each in wanted if chosen or each.from_width <= width]
    for name in _LEFT_OUT_FIRST:
        if _total(beside, widths) <= width:
            break
        beside = [each for each in beside if each.name != name]
    longest = max((cell_len(printable.one_line(row.reason)) for row in rows), default=0)
    left = width - _total(beside, widths) - _GAP
    return _Layout(
        {each.name: widths[each.name] for each in beside},
        [each for each in wanted if each not in beside],
        has_reason,
        has_reason and bool(longest or chosen) and left >= max(len("reason"), min(_REASON_WIDTH, longest)),
        chosen is not None,
    )


def _total(columns: Sequence[StatusColumn], widths: dict[str, int]) -> int:
    return sum(widths[each.name] + _GAP for each in columns) - _GAP


def _show_row(row: ProcessRow, layout: _Layout, known: bool) -> None:
    console, colour = output.out(), _COLOURS.get(row.status, "red")
    columns = {each.name: each for each in COLUMNS}
    cells = {name: Text(printable.one_line(columns[name].cell(row, known))) for name in layout.beside}
    if "health" in cells:
        cells["health"].stylize(colour)
    reason = printable.one_line(row.reason) if layout.has_reason else ""
    line = _line(cells, layout, "")
    if layout.reason_beside and reason:
        place = line.cell_len + _GAP
        head, *rest = [Text(reason)] if output.is_piped() else Text(reason).wrap(console, console.width - place)
        console.print(line + Text(" " * _GAP) + head, soft_wrap=True)
        for each in rest:
            output.print_indented(each, place)
    else:
        output.print_indented(line, 0)
    below = [each for each in layout.below if layout.is_chosen or each.matters(row)]
    if below:
        details = ", ".join(f"{each.name} {each.cell(row, known)}" for each in below)
        output.print_indented(Text(printable.one_line(details)), _INDENT)
    if reason and not layout.reason_beside:
        output.print_indented(Text(reason, "" if colour == "green" else colour), _INDENT)


def _line(cells: dict[str, Text], layout: _Layout, last: str) -> Text:
    right = {each.name for each in COLUMNS if each.right}
    line = Text()
    for place, (name, width) in enumerate(layout.beside.items()):
        cell = cells[name].copy()
        cell.align("right" if name in right else "left", width)
        line.append_text(Text(" " * _GAP if place else "") + cell)
    if layout.reason_beside and last:
        line.append(" " * _GAP + last, "bold")
    return line


def _show_left_out(layout: _Layout) -> None:
    names = [each.name for each in layout.below]
    if names and not layout.is_chosen:
        output.out().print(f"[dim]below a row if they matter, or with --columns: {', '.join(names)}[/]")


def _differs(row: ProcessRow) -> bool:
    return row.wanted != row.state


# --- Bots ------------------------------------------------------------------------------------------------------------


def _show_bots(found: Overview, every: bool) -> None:
    shown = found.bots if every else found.bots[:MAX_BOTS]
    for each in shown:
        colour = _BOT_COLOURS.get(each.status, "red")
        text = f"{each.reason} (`{each.hint}`)"
        line = f"[{colour}]bot {escape(each.name)} {each.status}[/]: {escape(text)}"
        output.out().print(line, soft_wrap=output.is_piped())
    if len(found.bots) > len(shown):
        more = len(found.bots) - len(shown)
        output.out().print(f"and {more} more bots: [b]bisnesctl status --all[/] lists them")
