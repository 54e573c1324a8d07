"""`bisnesctl log-level`: the level at which processes log, for a time and without a restart."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes_if
from bisnesctl.cli.app import (
    WATCH,
    AsJson,
    Bots,
    Companies,
    Kinds,
    States,
    app,
    example,
    running_deployment,
    select,
    selection_of,
)

if TYPE_CHECKING:
    from bisnesctl.processes.deployment import Deployment
    from bisnesctl.processes.selection import Selection
    from bisnesctl.processes.supervisor import Process
    from bisnesctl.processes.topology import Instance

#: The word that ends a level that was set.
DEFAULT = "default"
#: How long a level lasts if nothing else is said.
DEFAULT_DURATION = "10m"
#: The longest time for which a level can be set, in hours.
MAX_HOURS = 24
_LEVELS = ("debug", "info", "warning", "error", "critical")


def _level_in(words: list[str] | None) -> str | None:
    """The level that the words end with; None: they only name processes."""
    last = words[-1].lower() if words else ""
    return last if last in (*_LEVELS, DEFAULT) else None


@dataclass(frozen=True)
class LevelRow:
    """The level of one process."""

    name: str
    level: str
    until: str | None  # None: LOG_LEVEL, without an end


@app.command(
    name="log-level",
    rich_help_panel=WATCH,
    epilog=example(
        "bisnesctl log-level",
        "bisnesctl log-level meta-worker events debug --for 10m",
        "bisnesctl log-level all debug --for 5m",
        "bisnesctl log-level all default",
    ),
)
@changes_if(lambda given: _level_in(given["words"]))
def log_level(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]... [LEVEL]",
            help="Programs, instances or all; then debug, info, warning, error, critical or default.",
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="DURATION", help=f"How long, such as 90s or 2h.  [default: {DEFAULT_DURATION}]"),
    ] = None,
    company: Companies = None,
    bot: Bots = None,
    kind: Kinds = None,
    state: States = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show at which level processes log, or set it for a time.

    No process is restarted. The level ends by itself, and when the process ends: then LOG_LEVEL counts again. `default`
    ends it at once. Debug lines have neither texts of messages nor credentials.
    """
    from bisnesctl.errors import UsageError
    from bisnesctl.terminal import output

    level = _level_in(words)
    names = list(words or [])[: -1 if level else None]
    selection = selection_of(names, company, bot, kind, state)
    if level is None and duration is not None:
        raise UsageError(f"name a level before --for: {', '.join(_LEVELS)}")
    if level is not None and selection.is_empty:
        raise UsageError(f"name the processes before the level: `bisnesctl log-level all {level}`")
    deployment = running_deployment()
    deployment.check_started()
    processes = deployment.processes()
    chosen = _chosen(deployment, selection, processes)
    if level is not None:
        _set(deployment, chosen, level, _seconds(duration or DEFAULT_DURATION))
    rows = [_row(deployment, each, processes) for each in chosen]
    output.print_found(rows, as_json, _show, none="no process runs that logs at a level of its own")


def _seconds(text: str) -> float:
    from bisnesctl import moments
    from bisnesctl.errors import UsageError

    seconds = moments.parse_duration(text.strip())
    if not seconds or seconds > MAX_HOURS * 3600:
        raise UsageError(f"--for {text}: write a duration of at most {MAX_HOURS}h, such as 90s, 10m or 2h")
    return seconds


def _chosen(
    deployment: "Deployment", selection: "Selection", processes: "dict[str, Process]"
) -> "list[Instance]":  # fmt: skip
    """The selected instances that run and have levels. Raises `UsageError`, `NotRunning`."""
    from bisnesctl.errors import NotRunning, UsageError

    running = {name for name, found in processes.items() if found.pid}
    found = select(deployment, selection, deployment.known(processes), processes)
    servers = [each.name for each in found if each.program.is_server]
    if servers and set(servers) & set(selection.names):
        raise UsageError(f"{', '.join(servers)} has settings of its own for its log, which bisnesctl does not change")
    able = [each for each in found if each.name in running and not each.program.is_server]
    if not able and not selection.is_empty:
        raise NotRunning(f"no process runs that matches {selection}: see `bisnesctl status`")
    return able


def _set(deployment: "Deployment", chosen: "list[Instance]", level: str, seconds: float) -> None:
    from bisnesctl.logs import levels

    for each in chosen:
        if level == DEFAULT:
            levels.clear(deployment.settings.run_dir, each.name)
        else:
            levels.write(deployment.settings.run_dir, each.name, level, seconds)


def _row(deployment: "Deployment", instance: "Instance", processes: "dict[str, Process]") -> LevelRow:
    from bisnesctl import moments
    from bisnesctl.health.guard_file import GUARD
    from bisnesctl.host import process_times
    from bisnesctl.logs import levels

    usual = levels.USUAL if instance.name == GUARD else deployment.settings.log_level
    timed = levels.read(deployment.settings.run_dir, instance.name)
    started = process_times.boottime() - process_times.uptime(processes[instance.name].pid)
    if timed is None or not timed.applies(started):
        return LevelRow(instance.name, usual, None)
    return LevelRow(instance.name, timed.level, moments.iso(timed.ends_at))


def _show(rows: list[LevelRow]) -> None:
    from bisnesctl import moments
    from bisnesctl.terminal import output

    output.print_table(
        [output.Column("name"), output.Column("level"), output.Column("until")],
        [
            (
                output.escape(row.name),
                row.level,
                moments.shown(moments.parse(row.until, "until")) if row.until else "LOG_LEVEL",
            )
            for row in rows
        ],
    )
