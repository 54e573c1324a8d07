"""`bisnesctl restart`: some instances, one after the other."""

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import RUN, SomeNames, app, checked_deployment, example


@app.command(rich_help_panel=RUN, epilog=example("bisnesctl restart api", "bisnesctl restart meta-worker-2"))
@changes
def restart(names: SomeNames) -> None:
    """Restart programs with the current settings. Each instance is healthy again before the next one stops."""
    from bisnesctl.lifecycle.restart import restart as restart_in_turn
    from bisnesctl.processes.topology import resolve
    from bisnesctl.terminal import output

    deployment = checked_deployment()
    deployment.require_running()
    resolve(names, deployment.known(deployment.processes()))
    with deployment.lock(f"restart {' '.join(names)}"):
        restart_in_turn(deployment, names, output.say)
