"""`bisnesctl start`: from nothing to healthy processes, or some programs of what runs."""

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import (
    RUN,
    Bots,
    Companies,
    DryRun,
    Kinds,
    States,
    app,
    checked,
    checked_deployment,
    complete_name,
    example,
    find_chosen,
    selection_of,
)
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.lifecycle.start import Start
    from bisnesctl.processes.deployment import Deployment
    from bisnesctl.processes.selection import Selection
    from bisnesctl.settings import Settings
    from bisnesctl.terminal.log_view import LogView

_MODES = "name one mode: `bisnesctl start --multiprocess`, or `bisnesctl start --legacy`"


@app.command(
    rich_help_panel=RUN,
    epilog=example(
        "bisnesctl start --multiprocess --sandbox",
        "bisnesctl start --multiprocess --only meta",
        "bisnesctl start --multiprocess --foreground",
        "bisnesctl start meta-worker-2",
        "bisnesctl start --state failed",
        "bisnesctl start all",
    ),
)
@changes
def start(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Without a mode: programs or instances of what runs, or `all`.",
            autocompletion=complete_name,
        ),
    ] = None,
    multiprocess: Annotated[
        bool, typer.Option("--multiprocess", help="Run isolated processes (the usual mode).")
    ] = False,
    legacy: Annotated[bool, typer.Option("--legacy", help="Run the legacy single process, on port 8443.")] = False,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Use simulators instead of the providers.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME...", help="Start only these programs and the servers they need.")
    ] = None,
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
    company: Companies = None,
    bot: Bots = None,
    kind: Kinds = None,
    state: States = None,
    dry_run: DryRun = False,
) -> None:
    """Start the processes and wait until they are healthy.

    In a checkout without an `.env`, one is written; elsewhere, `bisnesctl init` writes it. If DATABASE_URL or REDIS_*
    are not set, an embedded PostgreSQL or Redis is started. Processes that run already keep running. If a process
    fails, its last log lines are shown and everything that this command started is stopped.

    Without a mode, names and selectors start single programs of what runs; `start` or `start all` starts everything as
    it was started last, and `start --only` the programs named, in the mode of the last start.

    ENCRYPTION_KEY must be the key of the stored credentials, for example that of the former system.
    """
    from bisnesctl.lifecycle import env_creation
    from bisnesctl.processes import scales
    from bisnesctl.processes.deployment import as_started
    from bisnesctl.processes.selection import EVERYTHING
    from bisnesctl.processes.topology import Mode
    from bisnesctl.terminal import output

    selection = selection_of(names, company, bot, kind, state)
    if multiprocess and legacy:
        raise UsageError(_MODES)
    if multiprocess or legacy:
        programs = _only(selection, only)
        settings = checked(env_creation.ensure_env_file(output.say))
        settings = scales.apply(settings).copy_with(sandbox=sandbox or settings.sandbox)
        mode = Mode.LEGACY if legacy else Mode.MULTIPROCESS
        run(settings, mode, programs, foreground, accept_lost_credentials, adopt_media_store)
    elif only or (selection.names in ((), (EVERYTHING,)) and not selection.has_selectors):
        programs = _only(selection, only) if only else ()
        deployment = checked_deployment()
        last = deployment.last_start
        if last is None:
            deployment.check_started()
            raise UsageError(_MODES)
        if not programs:
            output.say(f"starting as it was started last: {deployment.start_command}")
        settings = as_started(deployment.settings)
        run(
            settings, last.mode, programs or last.only, foreground, accept_lost_credentials, adopt_media_store,
            last.beside and not programs,
        )  # fmt: skip
    else:
        _start_more(selection, dry_run)


def _only(selection: "Selection", only: list[str] | None) -> tuple[str, ...]:
    """The programs of `--only`, which may be followed by more names."""
    if selection.has_selectors:
        raise UsageError("selectors choose among what runs: type them without a mode, such as `--multiprocess`")
    if selection.names and not only:
        raise UsageError(
            f"unexpected argument {selection.names[0]}. To start only some programs: "
            f"`--only {' '.join(selection.names)}`; to start more of what runs, type no mode"
        )
    return (*(name for each in only or [] for name in each.split(",") if name), *selection.names)


def _start_more(selection: "Selection", dry_run: bool) -> None:
    """Starts programs of the mode that runs."""
    from bisnesctl.lifecycle.relatives import still_stopped
    from bisnesctl.lifecycle.restart import start_more
    from bisnesctl.processes.topology import names_of
    from bisnesctl.terminal import output, preview

    deployment = checked_deployment()
    targets = find_chosen(deployment, selection)
    if dry_run:
        output.result(names_of(targets.chosen))
        return
    with deployment.lock(f"start {selection}", report=preview.remark):
        started = start_more(deployment, targets.chosen, output.say)
    idle = names_of(each for each in targets.chosen if each not in started)
    if idle:
        output.say(f"running already: {idle}")
    if started:
        output.say(f"started {names_of(started)}")
    preview.remark(still_stopped(deployment, targets.chosen))


def run(
    settings: "Settings", mode: str, only: tuple[str, ...], foreground: bool,
    accept_lost: bool = False, adopt_media_store: bool = False, beside: bool = False,
) -> None:  # fmt: skip
    """Starts a mode and reports the result."""
    from bisnesctl.errors import Conflict
    from bisnesctl.lifecycle.start import Action, Start
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.processes.topology import Mode
    from bisnesctl.rollout import duty
    from bisnesctl.terminal import output

    deployment = open_deployment(settings)
    if not (only or beside):
        _check_no_rollout(deployment)
    if foreground and deployment.supervisor.running():
        raise Conflict("it is running already: `bisnesctl logs -f` shows the logs, `bisnesctl stop` ends it")
    begun = Start(
        deployment, Mode(mode), output.say, only, foreground, Action.START, accept_lost, adopt_media_store, beside
    )
    view = _view(deployment, begun) if foreground else None
    with signals_as_interrupt():
        begun.run()
    if begun.mode is Mode.MULTIPROCESS and not only:
        duty.end_rollback(deployment.settings.run_dir)  # it is undone
    for line in _summary(begun):
        output.say(line)
    if view is not None and begun.child is not None:
        from bisnesctl.terminal.foreground import stay

        stay(deployment, begun.child, view, output.say)


def _summary(begun: "Start") -> Iterator[str]:
    """The result of a start for people, in lines with markup."""
    from bisnesctl.health.inspection import inspect
    from bisnesctl.health.probes import Status
    from bisnesctl.processes.topology import Kind

    deployment = begun.deployment
    if not begun.started and begun.child is None:
        yield "everything runs already and is healthy"
    kinds = {each.program.kind: each for each in reversed(deployment.active())}
    where = f"API [b]{kinds[Kind.API].url}[/], documented at /openapi/swagger; " if Kind.API in kinds else ""
    if Kind.DASHBOARD in kinds:
        where += f"dashboard [b]{deployment.settings.dashboard_address}[/]; "
    sandbox = " in the sandbox" if deployment.settings.sandbox else ""
    yield f"running{sandbox} ({begun.mode}): {where}`bisnesctl status`, `bisnesctl logs -f`, `bisnesctl stop`"
    processes = deployment.processes()
    for name, health in inspect(deployment, deployment.shown(processes), processes).items():
        if health.status in (Status.OUTDATED, Status.EXTRA):  # a start leaves it as it is
            yield f"[yellow]{name} is {health.status}[/]: {health.reason}"


def _check_no_rollout(deployment: "Deployment") -> None:
    """Raises `Conflict` while bots are on both sides: the start of one side alone would stop the other."""
    from bisnesctl.errors import Conflict
    from bisnesctl.rollout import duty

    if duty.is_moving(deployment.settings.run_dir):
        raise Conflict(
            "a rollout is under way, so both sides are needed: `bisnesctl rollout status` shows it, "
            "`bisnesctl rollout abort` ends it, `bisnesctl start` without a mode starts both sides"
        )


@contextlib.contextmanager
def signals_as_interrupt() -> Iterator[None]:
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
