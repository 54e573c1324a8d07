"""`bisnesctl stop`: everything, or some programs."""

from typing import Annotated

import typer

from bisnesctl.cli.app import RUN, app, example


@app.command(rich_help_panel=RUN, epilog=example("bisnesctl stop", "bisnesctl stop meta-worker"))
def stop(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Programs or instances.")] = None,
) -> None:
    """Stop everything in reverse order, then supervisord; or only the programs named.

    Processes finish their current work first. Messages that wait stay in the database until the next start.
    """
    from bisnesctl.lifecycle.stop import stop_all, stop_named
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.processes.topology import resolve
    from bisnesctl.terminal import output

    deployment = open_deployment()
    chosen = resolve(names or [], deployment.known(deployment.processes()))
    if deployment.supervisor_pid() is None and not deployment.supervisor.running():
        output.say("nothing is running")
        return
    with deployment.lock("stop"):
        if not names:
            stop_all(deployment, output.say)
            output.say("everything has stopped")
            return
        deployment.require_running()
        running = stop_named(deployment, chosen, output.say)
    stopped = ", ".join(each.name for each in running)
    output.say(f"stopped {stopped}" if stopped else f"{', '.join(names)}: not running")
