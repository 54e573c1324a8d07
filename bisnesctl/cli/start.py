"""`bisnesctl start`: from nothing to healthy processes."""

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import RUN, app, checked_settings, example
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.lifecycle.start import Start
    from bisnesctl.processes.deployment import Deployment
    from bisnesctl.settings import Settings
    from bisnesctl.terminal.log_view import LogView


@app.command(
    rich_help_panel=RUN,
    epilog=example(
        "bisnesctl start --multiprocess --sandbox",
        "bisnesctl start --multiprocess --only meta",
        "bisnesctl start --multiprocess --foreground",
    ),
)
@changes
def start(
    multiprocess: Annotated[
        bool, typer.Option("--multiprocess", help="Run isolated processes (the usual mode).")
    ] = False,
    legacy: Annotated[bool, typer.Option("--legacy", help="Run the legacy single process, on port 8443.")] = False,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Use simulators instead of the providers.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME...", help="Start only these programs and the servers they need.")
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="NAME")] = None,
    accept_lost_credentials: Annotated[
        bool,
        typer.Option(
            "--accept-lost-credentials",
            help="Start although ENCRYPTION_KEY decrypts none of the stored credentials; their bots are held.",
        ),
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay in the foreground and show all logs; Ctrl-C stops everything.")
    ] = False,
    adopt_media_store: Annotated[
        bool,
        typer.Option("--adopt-media-store", help="Use MEDIA_STORE although the database's files are in another store."),
    ] = False,
) -> None:
    """Start the processes and wait until they are healthy.

    In a checkout without an `.env`, one is written; elsewhere, `bisnesctl init` writes it. If DATABASE_URL or REDIS_*
    are not set, an embedded PostgreSQL or Redis is started. Processes that run already keep running. If a process
    fails, its last log lines are shown and everything that this command started is stopped.

    ENCRYPTION_KEY must be the key of the stored credentials, for example that of the former system.
    """
    from bisnesctl.lifecycle import preflight
    from bisnesctl.processes.topology import Mode
    from bisnesctl.terminal import output

    if multiprocess == legacy:
        raise UsageError("name one mode: `bisnesctl start --multiprocess`, or `bisnesctl start --legacy`")
    if more and not only:
        raise UsageError(f"unexpected argument {more[0]}. To start only some programs: `--only {' '.join(more)}`")
    names = tuple(name for each in [*(only or []), *(more or [])] for name in each.split(",") if name)
    preflight.ensure_env_file(output.say)
    settings = checked_settings()
    settings = settings.copy_with(sandbox=sandbox or settings.sandbox)
    mode = Mode.LEGACY if legacy else Mode.MULTIPROCESS
    run(settings, mode, names, foreground, True, accept_lost_credentials, adopt_media_store)


def run(
    settings: "Settings", mode: str, only: tuple[str, ...], foreground: bool, migrate: bool = True,
    accept_lost: bool = False, adopt_media_store: bool = False,
) -> None:  # fmt: skip
    """Starts a mode and reports the result."""
    from bisnesctl.errors import Conflict
    from bisnesctl.lifecycle.start import Start
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.processes.topology import Mode
    from bisnesctl.terminal import output

    deployment = open_deployment(settings)
    if foreground and deployment.supervisor.running():
        raise Conflict("it is running already: `bisnesctl logs -f` shows the logs, `bisnesctl stop` ends it")
    begun = Start(deployment, Mode(mode), output.say, only, foreground, migrate, accept_lost, adopt_media_store)
    view = _view(deployment, begun) if foreground else None
    with _signals_as_interrupt():
        begun.run()
    if not begun.started and begun.child is None:
        output.say("everything runs already and is healthy")
    _summarise(deployment, begun)
    _show_outdated(deployment)
    if view is not None and begun.child is not None:
        from bisnesctl.terminal.foreground import stay

        stay(deployment, begun.child, view, output.say)


@contextlib.contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that the start is undone."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _view(deployment: "Deployment", begun: "Start") -> "LogView":
    from bisnesctl.logs.files import files_of
    from bisnesctl.terminal.log_view import LogView

    wanted = deployment.wanted(begun.mode, begun.only)
    return LogView([file for each in wanted for file in files_of(deployment.settings.log_dir, each.name)])


def _show_outdated(deployment: "Deployment") -> None:
    """Names what runs with settings that have changed since, because a start leaves it as it is."""
    from bisnesctl.health.inspection import inspect
    from bisnesctl.health.probes import Status
    from bisnesctl.terminal import output

    processes = deployment.processes()
    for name, health in inspect(deployment, deployment.shown(processes), processes).items():
        if health.status in (Status.OUTDATED, Status.EXTRA):
            output.say(f"[yellow]{name} is {health.status}[/]: {health.reason}")


def _summarise(deployment: "Deployment", begun: "Start") -> None:
    from bisnesctl.terminal import output

    apis = [each for each in deployment.active() if each.program.name in ("api", "legacy")]
    where = f"API [b]{apis[0].url}[/], documented at /openapi/swagger; " if apis else ""
    sandbox = " in the sandbox" if deployment.settings.sandbox else ""
    output.say(f"running{sandbox} ({begun.mode}): {where}`bisnesctl status`, `bisnesctl logs -f`, `bisnesctl stop`")
