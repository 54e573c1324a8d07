"""`bisnesctl rollback`: back to the legacy single process."""

from bisnesctl.cli.app import RUN, app, example


@app.command(rich_help_panel=RUN, epilog=example("bisnesctl rollback"))
def rollback() -> None:
    """Go back to the legacy single process, on port 8443.

    It is started beside the isolated processes. When it is healthy, they finish their current work and stop, and it
    delivers the messages that wait. This works even if the API keeps crashing or Redis is down. The database is not
    changed.
    """
    from bisnesctl.cli.start import run
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.processes.topology import Mode
    from bisnesctl.terminal import output

    deployment = open_deployment()
    sandbox = " --sandbox" if deployment.settings.sandbox else ""
    run(deployment.settings, Mode.LEGACY, only=(), foreground=False, migrate=False)
    output.say(f"rolled back; to return: [b]bisnesctl start --multiprocess{sandbox}[/]")
