"""`bisnesctl restart`: some instances, one after the other."""

from bisnesctl.cli.app import RUN, SomeNames, app, checked_deployment, example


@app.command(rich_help_panel=RUN, epilog=example("bisnesctl restart api", "bisnesctl restart meta-worker-2"))
def restart(names: SomeNames) -> None:
    """Restart programs with the current settings. Each instance is healthy again before the next one stops."""
    from bisnesctl.errors import UsageError
    from bisnesctl.lifecycle import start
    from bisnesctl.processes.topology import resolve
    from bisnesctl.terminal import output

    deployment = checked_deployment()
    deployment.require_running()
    chosen = resolve(names, deployment.instances)
    foreign = [each.name for each in chosen if deployment.mode not in each.program.modes]
    if foreign:
        raise UsageError(
            f"the mode {deployment.mode} is running, which does not have {', '.join(foreign)}: `bisnesctl start` "
            "changes the mode"
        )
    with deployment.lock(f"restart {' '.join(names)}"):
        start.restart(deployment, chosen, output.say)
