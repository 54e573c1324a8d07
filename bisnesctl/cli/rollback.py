"""`bisnesctl rollback`: back to the legacy single process."""

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import RUN, app, example, running_deployment
from bisnesctl.errors import ConfigError


@app.command(rich_help_panel=RUN, epilog=example("bisnesctl rollback"))
@changes
def rollback() -> None:
    """Go back to the legacy single process, on port 8443.

    It is started beside the isolated processes. When it is healthy, they finish their current work and stop, and it
    delivers the messages that wait. This works even if the API keeps crashing or Redis is down. The database is not
    changed.
    """
    from bisnesctl.cli.start import run
    from bisnesctl.lifecycle import preflight
    from bisnesctl.processes.topology import Mode
    from bisnesctl.settings import ESSENTIAL
    from bisnesctl.terminal import output

    deployment = running_deployment(but=ESSENTIAL - {"api_port", "meta_host", "meta_port", "wwebjs_port"})
    settings = deployment.settings
    if settings.problems:
        raise ConfigError("\n".join(settings.problems.values()))
    if not settings.env_file.exists():
        deployment.check_started()
    preflight.check_secrets(settings)
    run(settings, Mode.LEGACY, only=(), foreground=False, migrate=False)
    closed = [settings.api_port, *([settings.meta_port] if settings.enable_meta else [])]
    output.say(
        f"[yellow]direct proxies, front-ends and Meta's webhook to port {settings.port}[/]: nothing listens on "
        f"{' and '.join(map(str, closed))} any more"
    )
    output.say(
        f"rolled back; to return: [b]bisnesctl start --multiprocess{' --sandbox' if settings.sandbox else ''}[/]"
    )
