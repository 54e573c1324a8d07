"""`bisnesctl start`: from nothing to healthy processes."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import RUN, app, example
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.lifecycle.steps import Start
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
def start(
    multiprocess: Annotated[bool, typer.Option("--multiprocess", help="Isolated processes: the normal way.")] = False,
    legacy: Annotated[bool, typer.Option("--legacy", help="The single process of old, on port 8443.")] = False,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Simulators instead of the providers.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME...", help="Only these programs, and the servers they need.")
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="")] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, show all logs, and stop everything with Ctrl-C.")
    ] = False,
) -> None:
    """Start the processes and wait until they are healthy.

    Without a `.env` it writes one. Without DATABASE_URL and REDIS_* it brings its own PostgreSQL and Redis. What
    runs already stays; what fails is explained with its last log lines, and everything that was begun is stopped.
    """
    from bisnesctl.processes.topology import Mode

    if multiprocess == legacy:
        raise UsageError("say how: `bisnesctl start --multiprocess`, or `bisnesctl start --legacy`")
    if more and not only:
        raise UsageError(f"what is {more[0]}? To start some programs only: `--only {' '.join(more)}`")
    names = tuple(name for each in [*(only or []), *(more or [])] for name in each.split(",") if name)
    run(_settings(sandbox), Mode.LEGACY if legacy else Mode.MULTIPROCESS, names, foreground)


def _settings(sandbox: bool) -> "Settings":
    """The settings in force, with a new `.env` where there is none."""
    from bisnesctl.lifecycle import env_file
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    settings = load()
    if not settings.env_file.exists() and not settings.encryption_key:
        env_file.write(settings.env_file)
        output.say(f"wrote {settings.env_file}, with secrets of its own")
        settings = load()
    return settings.copy_with(sandbox=sandbox or settings.sandbox)


def run(settings: "Settings", mode: str, only: tuple[str, ...], foreground: bool, migrate: bool = True) -> None:
    """Starts a mode and says what came of it."""
    from bisnesctl.errors import Conflict
    from bisnesctl.lifecycle.steps import Start
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.processes.topology import Mode
    from bisnesctl.terminal import output
    from bisnesctl.terminal.signals import as_interrupt

    deployment = open_deployment(settings)
    if foreground and deployment.supervisor.running():
        raise Conflict("it runs in the background already: `bisnesctl logs -f` shows it, `bisnesctl stop` ends it")
    begun = Start(deployment, Mode(mode), output.say, only, foreground, migrate)
    view = _view(deployment, begun) if foreground else None
    with as_interrupt(), deployment.lock(f"start --{mode}"):
        begun.run()
    if not begun.started and begun.child is None:
        output.say("everything runs already and is healthy")
    _tell(deployment, begun)
    if view is not None:
        _stay(begun, view)


def _view(deployment: "Deployment", begun: "Start") -> "LogView":
    from bisnesctl.health.log_files import files_of
    from bisnesctl.processes.topology import in_mode
    from bisnesctl.terminal.log_view import LogView

    wanted = in_mode(deployment.instances, begun.mode, begun.only)
    return LogView([file for each in wanted for file in files_of(deployment.settings.log_dir, each.name)])


def _stay(begun: "Start", view: "LogView") -> None:
    from bisnesctl.terminal import output
    from bisnesctl.terminal.foreground import stay

    if begun.child is not None:
        stay(begun.deployment, begun.child, view, output.say)


def _tell(deployment: "Deployment", begun: "Start") -> None:
    from bisnesctl.terminal import output

    fronts = [each for each in deployment.active() if each.program.name in ("api", "legacy")]
    where = f"API [b]{fronts[0].url}[/], described at /openapi/swagger; " if fronts else ""
    sandbox = " in the sandbox" if deployment.settings.sandbox else ""
    output.say(f"running{sandbox} ({begun.mode}): {where}`bisnesctl status`, `bisnesctl logs -f`, `bisnesctl stop`")
