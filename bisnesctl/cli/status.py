"""`bisnesctl status`: the state of the processes."""

from typing import TYPE_CHECKING

from bisnesctl import formatting
from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, AsJson, app, example, running_deployment

if TYPE_CHECKING:
    from bisnesctl.health.overview import Overview, ProcessRow

_COLOURS = {
    "healthy": "green",
    "stopped": "dim",
    **dict.fromkeys(("outdated", "extra", "degraded", "starting", "stopping"), "yellow"),
}
#: The colours of bots' statuses; all others are red.
_BOT_COLOURS = {"warning": "yellow", "unlinked": "yellow", "stopped": "yellow", "note": "dim"}

_CONDITIONS = {
    "new": "nothing was started here yet",
    "stopping": "stopping",
    "stopped": "stopped on purpose: [b]{command}[/]",
    "died": "[red]not running[/], although it was not stopped on purpose: [b]{command}[/]",
    "silent": "[red]supervisord does not answer[/]: [b]bisnesctl stop[/] ends it",
}


@app.command(rich_help_panel=WATCH, epilog=example("bisnesctl status", "bisnesctl status --json"))
@reads
def status(json: AsJson = False) -> None:
    """Show every process: its status, uptime, CPU and memory, how often it died, and the reason if it is not healthy.

    Below that: the bots that need an operator. Works without the services, PostgreSQL and Redis. For an exit code, use
    `bisnesctl health`.
    """
    from dataclasses import asdict

    from bisnesctl.health.overview import overview
    from bisnesctl.terminal import output

    found = overview(running_deployment())
    if json:
        output.print_json(asdict(found))
    else:
        _show(found)


def _show(found: "Overview") -> None:
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    output.out().print(_header(found), soft_wrap=True)
    for disk in found.disks:
        output.out().print(f"[red]disk {escape(disk.mount)}[/]: {escape(disk.reason)}", soft_wrap=True)
    if not found.processes:
        return
    columns = [
        output.Column("name"),
        output.Column("status"),
        output.Column("pid", "right"),
        output.Column("uptime", "right"),
        output.Column("cpu", "right", from_width=70),
        output.Column("memory", "right"),
        output.Column("restarts", "right", from_width=76),
        output.Column("reason", wraps=True),
    ]
    output.print_table(columns, [_cells(row) for row in found.processes])
    for each in found.bots:
        colour = _BOT_COLOURS.get(each.status, "red")
        text = f"{each.reason} (`{each.hint}`)"
        output.out().print(f"[{colour}]bot {escape(each.name)} {each.status}[/]: {escape(text)}", soft_wrap=True)


def _header(found: "Overview") -> str:
    import time

    from bisnesctl.terminal.output import escape

    if found.condition != "running":
        text = _CONDITIONS[found.condition].format(command=found.start_command)
        return f"{escape(found.home)}: {text}{_elsewhere(found)}"
    since = f", for {formatting.duration(time.time() - found.since)}" if found.since else ""
    mode = f"{found.mode}, sandbox" if found.sandbox else str(found.mode)
    return f"[b]{mode}[/]{since}; home {escape(found.home)}; supervisord {found.supervisor_pid}\n"


def _elsewhere(found: "Overview") -> str:
    """The homes of other deployments, for an operator in a wrong directory."""
    from bisnesctl.processes.deployment import running_homes
    from bisnesctl.terminal.output import escape

    if found.condition != "new":
        return ""
    homes = running_homes()
    if homes:
        return f"; running on this machine: {escape(', '.join(homes))}"
    return "; to start: [b]bisnesctl start --multiprocess --sandbox[/]"


def _cells(row: "ProcessRow") -> list[str]:
    from bisnesctl.terminal.output import escape

    return [
        row.name,
        f"[{_COLOURS.get(row.status, 'red')}]{row.status}[/]",
        str(row.pid or "-"),
        formatting.duration(row.uptime_seconds),
        "-" if row.cpu_percent is None else f"{row.cpu_percent:.0f} %",
        formatting.size(row.memory_bytes),
        str(row.restarts),
        escape(row.reason),
    ]
