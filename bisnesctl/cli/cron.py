"""`bisnesctl cron`: the jobs of cron, and the lines that they need in the crontab."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes, reads
from bisnesctl.cli.app import (
    WATCH,
    Commands,
    app,
    checked_deployment,
    example,
    started_deployment,
    usable_deployment,
    usable_settings,
)
from bisnesctl.errors import BisnesError

if TYPE_CHECKING:
    from bisnesctl.settings import Settings

#: Seconds that the check of one minute may take.
PROBE_SECONDS = 50
#: Bytes of the file with the probe's lines, from which on it is renamed; one older file is kept.
MAX_LOG_BYTES = 2 << 20
#: The lock of the check, below `run_dir`.
PROBE_LOCK = "cron.lock"

cron = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Check, heal and clean up from cron: show, install and remove the lines in the crontab.",
)
app.add_typer(cron, name="cron", rich_help_panel=WATCH)

Heal = Annotated[bool, typer.Option("--heal", help="Also start again what is down though nobody stopped it.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only what was changed, for cron.")]


@cron.command("show", epilog=example("bisnesctl cron show --heal", "bisnesctl cron show --system"))
@reads
def show(
    heal: Heal = False,
    system: Annotated[bool, typer.Option("--system", help="In the form of a file for /etc/cron.d.")] = False,
) -> None:
    """Print the lines that `cron install` would write."""
    from bisnesctl.processes import cron_block
    from bisnesctl.terminal import output

    for line in cron_block.render(usable_settings(), heal, system):
        output.result(line)


@cron.command("install", epilog=example("bisnesctl cron install", "bisnesctl cron install --heal"))
@changes
def install(heal: Heal = False) -> None:
    """Write this deployment's lines to the crontab of this user, in place of those of before.

    Every minute: the health check. Every night: the clean-up. All other lines stay as they are.
    """
    from bisnesctl.host import crontab
    from bisnesctl.processes import cron_block
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    settings = usable_settings()
    block = cron_block.render(settings, heal)
    _warn_of_environment(settings)
    before = crontab.read()
    after = crontab.with_block(before, block)
    if after == before:
        output.say("the crontab has these lines already")
        return
    crontab.write(after)
    where = escape(str(settings.log_dir / cron_block.CRON_LOG))
    output.say(f"the crontab has the lines of {escape(str(settings.env_file))}: the checks are in {where}")
    if not settings.health_ping_url.get_secret_value():
        output.say("nobody notices if this machine or cron stops: HEALTH_PING_URL names a dead-man switch")


def _warn_of_environment(settings: "Settings") -> None:
    """Names the settings of this terminal, which cron does not have."""
    from bisnesctl.setting_values import ENVIRONMENT
    from bisnesctl.terminal import output

    names = [name.upper() for name in type(settings).model_fields if settings.origin(name) == ENVIRONMENT]
    if names:
        output.warn(
            f"{', '.join(names)}: set in the environment of this terminal, which cron does not have. Set it in "
            f"{settings.env_file}"
        )


@cron.command("remove", epilog=example("bisnesctl cron remove"))
@changes
def remove() -> None:
    """Remove this deployment's lines from the crontab of this user. All other lines stay as they are."""
    from bisnesctl.host import crontab
    from bisnesctl.processes import cron_block
    from bisnesctl.terminal import output

    own = cron_block.marks(usable_settings())
    before = crontab.read()
    after = crontab.without_block(before, own.begin, own.end)
    if after == before:
        output.say("the crontab has no lines of this deployment")
        return
    crontab.write(after)
    output.say("removed the lines of this deployment from the crontab")


@cron.command("heal", epilog=example("bisnesctl cron heal"))
@changes
def heal() -> None:
    """Start again what is down though nobody stopped it: supervisord, the guard, or what the guard gave up.

    At most HEAL_RESTARTS_PER_HOUR times an hour for the same thing, and never while another command is running.
    """
    from bisnesctl.lifecycle.heal import heal as start_again
    from bisnesctl.terminal import output

    deployment = checked_deployment()
    deployment.check_started()
    started = start_again(deployment, output.say)
    output.say(f"started {', '.join(started)}" if started else "nothing was started")


@cron.command("clean-up", epilog=example("bisnesctl cron clean-up"))
@changes
def clean_up(quiet: Quiet = False) -> None:
    """Delete old files of this machine and old rows of the database, as `bisnesctl clean-up` does.

    The files are logs of instances that are gone for 30 days, and other remains.
    """
    from bisnesctl.cli.clean_up import check, delete_rows, remove_files, words
    from bisnesctl.processes.deployment import Condition
    from bisnesctl.terminal import output

    deployment, outcome = usable_deployment(), None
    if deployment.settings.embedded_postgres:
        deployment.check_started()
    files = remove_files(deployment)
    try:
        # An embedded PostgreSQL that is stopped has nobody who waits for it.
        if not deployment.settings.embedded_postgres or deployment.condition() is Condition.RUNNING:
            outcome = delete_rows(deployment)
    finally:
        if not quiet or files or (outcome is not None and outcome.deleted):
            output.say(words(files, outcome))
    if outcome is not None:
        check(outcome)


@cron.command("probe", epilog=example("bisnesctl cron probe", "bisnesctl cron probe --heal"))
@reads
def probe(heal: Heal = False, quiet: Quiet = False) -> None:
    """Check the health as cron does every minute: write the line to the log and call HEALTH_PING_URL.

    The exit code is that of `bisnesctl health --probe`: 0 OK, 1 warning, 2 critical, 3 unknown.
    """
    from bisnesctl.health import dead_man_switch, plugin_line
    from bisnesctl.health.dead_man_switch import Ping
    from bisnesctl.health.verdict import Verdict
    from bisnesctl.terminal import output

    settings = usable_settings()
    with _alone(settings) as alone:
        if not alone:
            code, line = plugin_line.unknown("the check of the minute before is still running")
            _note(settings, line)
            raise typer.Exit(code)
        refused = dead_man_switch.ping(settings, Ping.START)
        for line in _heal() if heal else ():
            _note(settings, line)
            output.say(output.escape(line))
        verdict, line = _probe()
        words = line.partition(" | ")[0]  # without performance data
        _note(settings, words)
        ok = verdict in (Verdict.OK, Verdict.WARNING)
        refused = dead_man_switch.ping(settings, Ping.SUCCESS if ok else Ping.FAIL, words) or refused
        if refused:
            _note(settings, refused)
    if not quiet:
        output.result(line)
        if refused:
            output.warn(refused)
    raise typer.Exit(int(verdict))


def _heal() -> Iterator[str]:
    """Heals; the lines that say what was done, or why nothing could be done."""
    from bisnesctl.lifecycle.heal import heal as start_again

    said: list[str] = []
    try:
        start_again(checked_deployment(), said.append)
    except (BisnesError, OSError) as error:
        said.append(f"nothing more was started: {error}")
    for line in said:
        yield " ".join(f"heal: {line}".split())


def _probe() -> tuple[int, str]:
    """The verdict and its line, within a limit."""
    from bisnesctl.health import plugin_line
    from bisnesctl.host.bounded_call import BoundedCall

    try:
        return BoundedCall(_measure, "probe").within(PROBE_SECONDS)
    except TimeoutError:
        return plugin_line.unknown(f"the check took more than {PROBE_SECONDS} s")


def _measure() -> tuple[int, str]:
    from bisnesctl.health import plugin_line
    from bisnesctl.signals.judgement import in_one_line
    from bisnesctl.signals.measurement import measure

    try:
        verdict, line = in_one_line(measure(started_deployment()))
        return int(verdict), line
    except Exception as error:  # a monitoring system reads this line alone
        return plugin_line.unknown(error)


@contextlib.contextmanager
def _alone(settings: "Settings") -> Iterator[bool]:
    """Whether no other check is running. Within it none begins, unless the disk cannot be written."""
    import os

    from bisnesctl.host import file_lock

    try:
        handle = file_lock.open_file(settings.run_dir / PROBE_LOCK)
    except OSError:  # never started, or the disk cannot be written
        yield True
        return
    try:
        yield file_lock.take(handle)
    finally:
        os.close(handle)


def _note(settings: "Settings", line: str) -> None:
    """Adds a line with the time to the log of the checks. A full disk prevents no check."""
    import os
    import time

    from bisnesctl import moments
    from bisnesctl.processes.cron_block import CRON_LOG
    from bisnesctl.terminal import printable

    path = settings.log_dir / CRON_LOG
    with contextlib.suppress(OSError):
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_name(f"{CRON_LOG}.1"))
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "a") as stream:
            stream.write(f"{moments.iso(time.time())} {printable.one_line(line)}\n")
