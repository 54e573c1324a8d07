"""`bisnesctl stop`: everything, or some programs."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import RUN, Names, app, example, running_deployment

if TYPE_CHECKING:
    from bisnesctl.processes.deployment import Deployment


@app.command(rich_help_panel=RUN, epilog=example("bisnesctl stop", "bisnesctl stop meta-worker"))
@changes
def stop(
    names: Names = None,
) -> None:
    """Stop everything in reverse order, then supervisord; or only the programs named.

    Processes finish their current work first. Messages that wait stay in the database until the next start.
    """
    from bisnesctl.lifecycle.stop import stop_all, stop_named
    from bisnesctl.processes.topology import resolve
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    deployment = running_deployment()
    chosen = resolve(names or [], deployment.known(deployment.processes()))
    if deployment.supervisor_pid() is None and not deployment.supervisor.running():
        deployment.check_started()
        output.say(escape(f"nothing is running in {deployment.settings.home}"))
        return
    with deployment.lock("stop"), _interruption_reported(deployment):
        if not names:
            stop_all(deployment, output.say)
            output.say("everything has stopped")
            return
        deployment.require_running()
        running = stop_named(deployment, chosen, output.say)
    stopped = ", ".join(each.name for each in running)
    output.say(f"stopped {stopped}" if stopped else f"{', '.join(names)}: not running")


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
