"""`bisnesctl restart`: some instances, one after the other."""

from typing import Annotated

import typer

from bisnesctl.cli.app import RUN, app, example


@app.command(rich_help_panel=RUN, epilog=example("bisnesctl restart api", "bisnesctl restart meta-worker-2"))
def restart(names: Annotated[list[str], typer.Argument(metavar="NAME", help="Programs or instances.")]) -> None:
    """Restart programs with the current settings. Each instance is healthy again before the next one stops."""
    from bisnesctl.lifecycle.restart import restart as restart_in_turn
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.processes.topology import resolve
    from bisnesctl.terminal import output

    deployment = open_deployment()
    resolve(names, deployment.known(deployment.processes()))
    with deployment.lock(f"restart {' '.join(names)}"):
        restart_in_turn(deployment, names, output.say)
