"""`bisnesctl rollback`: back to the single process."""

from bisnesctl.cli.app import RUN, app, example


@app.command(rich_help_panel=RUN, epilog=example("bisnesctl rollback"))
def rollback() -> None:
    """Go back to the single process of old, on port 8443.

    It is started beside the others, and they are stopped once it is healthy: they finish what is in their hands, and
    it delivers what waits. Works while the API keeps crashing or Redis is down. Nothing happens to the database.
    """
    from bisnesctl.cli.start import run
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.processes.topology import Mode
    from bisnesctl.terminal import output

    run(open_deployment().settings, Mode.LEGACY, only=(), foreground=False, migrate=False)
    output.say("rolled back; to return: [b]bisnesctl start --multiprocess[/]")
