"""`bisnesctl stop`: everything, or some programs."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import (
    RUN,
    Bots,
    Companies,
    DryRun,
    Kinds,
    Names,
    States,
    Yes,
    app,
    example,
    running_deployment,
    select,
    selection_of,
)

if TYPE_CHECKING:
    from bisnesctl.processes.deployment import Deployment


@app.command(
    rich_help_panel=RUN,
    epilog=example(
        "bisnesctl stop",
        "bisnesctl stop meta-worker",
        "bisnesctl stop --company 0128",
        "bisnesctl stop --kind sessions",
    ),
)
@changes
def stop(
    names: Names = None,
    company: Companies = None,
    bot: Bots = None,
    kind: Kinds = None,
    state: States = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Stop everything in reverse order, then supervisord; or only the programs named.

    Processes finish their current work first; one that does not end in its time is killed, which is said. Messages
    that wait stay in the database until the next start.

    On a terminal it asks before it stops everything, or a program that others need, unless `--yes` is typed.

    `stop all` is the same as `stop`: no process of this deployment stays, not even supervisord. Selectors leave out
    the guard, the embedded servers and the sandbox, unless `--kind infrastructure` is typed.
    """
    from bisnesctl.lifecycle.relatives import still_running
    from bisnesctl.lifecycle.stop import stop_all, stop_named
    from bisnesctl.lifecycle.targets import find_targets
    from bisnesctl.processes.selection import EVERYTHING
    from bisnesctl.processes.topology import names_of
    from bisnesctl.terminal import output, preview
    from bisnesctl.terminal.output import escape

    selection = selection_of(names, company, bot, kind, state)
    everything = selection.is_empty or (EVERYTHING in selection.names and not selection.has_selectors)
    deployment = running_deployment()
    processes = deployment.processes()
    known = deployment.known(processes)
    found = select(deployment, selection, known, processes)
    if deployment.supervisor_pid() is None and not deployment.supervisor.running():
        deployment.check_started()
        output.say(escape(f"nothing is running in {deployment.settings.home}"))
        return
    if everything:
        if dry_run:
            output.result(names_of(deployment.unsettled()))
            return
        preview.confirm_stop_of_all(deployment, yes)
        with deployment.lock("stop", report=preview.remark), _interruption_reported(deployment):
            stop_all(deployment, output.say)
        output.say("everything has stopped")
        return
    targets = find_targets(deployment, selection, found, known)
    if preview.confirm("stop", selection, targets, yes, dry_run):
        preview.confirm_stop_of_base(deployment, targets, yes)
        with deployment.lock(f"stop {selection}", report=preview.remark), _interruption_reported(deployment):
            deployment.require_running()
            running = stop_named(deployment, targets.chosen, output.say)
        output.say(f"stopped {names_of(running)}" if running else f"{escape(str(selection))}: not running")
        preview.remark(still_running(deployment, targets.chosen))


@contextlib.contextmanager
def _interruption_reported(deployment: "Deployment") -> Iterator[None]:
    """Within it, Ctrl-C reports what still runs."""
    from bisnesctl.processes.topology import names_of
    from bisnesctl.terminal import output

    try:
        yield
    except KeyboardInterrupt:
        left = names_of(deployment.unsettled())
        output.say(f"interrupted: {left or 'only supervisord'} may still run; `bisnesctl status` shows it")
        raise
