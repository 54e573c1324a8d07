"""`bisnesctl logs`: the processes' logs."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, LogNames, app, example, running_deployment

if TYPE_CHECKING:
    from bisnesctl.health.log_files import LogFile
    from bisnesctl.processes.deployment import Deployment

_SUPERVISORD = "supervisord"


@app.command(
    rich_help_panel=WATCH,
    epilog=example("bisnesctl logs -f", "bisnesctl logs api meta-worker --lines 100", "bisnesctl logs supervisord"),
)
@reads
def logs(
    names: LogNames = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new lines.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many last lines of each file to show.")] = 15,
    err: Annotated[bool, typer.Option("--err", help="Show only standard error.")] = False,
) -> None:
    """Show the last log lines of all processes, or of those named.

    The files are read directly, so this works even if nothing runs.
    """
    from bisnesctl.terminal.log_view import LogView

    view = LogView(_files(running_deployment(), names or [], err))
    view.show_tail(lines)
    if names:
        view.report_silence()
    if follow:
        view.follow(until=lambda: False)


def _files(deployment: "Deployment", names: list[str], errors_only: bool) -> "list[LogFile]":
    from bisnesctl.errors import NotRunning
    from bisnesctl.health.log_files import LogFile, files_of
    from bisnesctl.processes.topology import resolve

    folder = deployment.settings.log_dir
    chosen = resolve((name for name in names if name != _SUPERVISORD), deployment.instances)
    files = [file for each in chosen or deployment.instances for file in files_of(folder, each.name, errors_only)]
    own = [LogFile(_SUPERVISORD, folder / "supervisord.log", is_error=False)]
    if names:
        return (files if chosen else []) + (own if _SUPERVISORD in names else [])
    found = [file for file in files if file.path.exists()]
    if not found:
        deployment.check_started()
        raise NotRunning(f"there are no logs in {folder} yet. Start it: `{deployment.start_command}`")
    return found
