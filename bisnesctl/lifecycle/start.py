"""Starts a mode, as steps. Each step is harmless if it was done before."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from bisnesctl import addresses
from bisnesctl.bots import credentials
from bisnesctl.bots.ownership import Side
from bisnesctl.database import api_keys, deployments, media_store, migrations, postgres, process_health
from bisnesctl.errors import (
    BisnesError,
    Conflict,
    DatabaseUnavailable,
    MigrationsPending,
    RedisUnavailable,
    StartFailed,
)
from bisnesctl.health import probes, supervisor_ends
from bisnesctl.health.probes import wait_healthy
from bisnesctl.lifecycle import handover, preflight
from bisnesctl.lifecycle.restart import add_programs, apply_changes
from bisnesctl.lifecycle.stop import Report, end_supervisor, stop_all, stop_in_order, stop_together, wait_stopped
from bisnesctl.processes import (
    command_records,
    embedded_servers,
    failed_start,
    known_good,
    stop_records,
    topology,
)
from bisnesctl.processes.deployment import Condition, Deployment, LastStart, Observation, make_folders, record_start
from bisnesctl.processes.render import write_config
from bisnesctl.processes.supervisor import SUPERVISORD, Supervisor
from bisnesctl.processes.topology import Instance, Kind, Mode, Program, names_of
from bisnesctl.settings import Settings

#: The path under which a program answers that lives, although its servers may not.
LIVE_PATH = "/health/live"
#: Label of the key OPERATOR_KEY in `bisnesctl keys list`.
OPERATOR_LABEL = "operator (.env)"
#: Seconds in which a new supervisord must answer.
BOOT_TIMEOUT_SECONDS = 15
#: Seconds between attempts to reach a new supervisord.
_BOOT_POLL_SECONDS = 0.02
#: Beginnings of the names of variables that supervisord does not inherit: those of another one, and of systemd.
_NOT_INHERITED = ("SUPERVISOR_", "NOTIFY_SOCKET")


class Action(StrEnum):
    """The reason of a start."""

    START = "start"
    #: It leaves everything that runs and the database's tables as they are, and needs no PostgreSQL.
    ROLLBACK = "rollback"
    #: As a rollback, but PostgreSQL must answer.
    ROLLOUT = "rollout"


@dataclass
class Start:
    """One start: what is wanted, and what was done so far, in case it must be undone."""

    deployment: Deployment
    mode: Mode
    report: Report
    only: tuple[str, ...] = ()
    foreground: bool = False
    action: Action = Action.START
    #: Start although ENCRYPTION_KEY decrypts none of the stored credentials.
    accept_lost: bool = False
    #: Whether MEDIA_STORE becomes the store of the database, if it is another one.
    adopt_media_store: bool = False
    #: Whether the programs of the other mode are started and continue too.
    beside: bool = False
    #: Seconds that the other side gets to finish what it has in hand of each bot, if bots are handed over.
    patience: float = handover.PATIENCE_SECONDS
    #: Whether cron starts what went down, which never happens against an operator's stop.
    healing: bool = False
    #: supervisord, if this start launched it.
    child: subprocess.Popen[bytes] | None = None
    #: Why PostgreSQL is unavailable, if the start continues without it.
    without_database: str = ""
    #: Whether this start tried to launch supervisord.
    launched: bool = False
    started: list[Instance] = field(default_factory=list)

    def run(self) -> None:
        """Starts what is wanted, waits until it is healthy, then stops the instances of the other mode.

        If a step fails, everything that this start began is stopped. Raises a `BisnesError` with the reason.
        """
        with self.deployment.observed(self._label, self.mode, self.only, self.report, self.beside) as found:
            if (self.healing or self.action is Action.ROLLOUT) and self.deployment.was_stopped:
                raise Conflict("an operator stopped it meanwhile")
            try:
                self._run(found)
            except (BisnesError, KeyboardInterrupt) as error:
                if found.condition is Condition.GONE and not self.healing:
                    failed_start.record(self.deployment.settings.run_dir, self._command, error)
                raise

    def _run(self, found: Observation) -> None:
        if self.action is Action.START:
            known_good.use(self.deployment.settings.run_dir, None)
        fixed = [each for each in found.wanted if not each.program.dynamic]  # the manager starts the sessions
        self._check(found, fixed)
        if found.condition is Condition.GONE and (end := supervisor_ends.find(self.deployment)):
            supervisor_ends.record(self.deployment, end)
        active = {each.name for each in found.active}
        idle = [each for each in found.wanted if each.name not in active]
        command_records.write(self.deployment.settings.run_dir, self._recorded_action, idle)
        try:
            self._configure(found.wanted)
            self._start_in_order(fixed)
        except BaseException:
            self._undo()
            raise
        if not (self.only or self.beside):
            self._take_over()
            self._stop_other_mode()
            process_health.forget(self.deployment.settings, topology.processes_of_other_modes(self.mode))
        self._record(found.wanted)
        if self.action is Action.START and any(each.program.kind is Kind.API for each in self.started):
            known_good.save(self.deployment.settings.home)

    @property
    def _label(self) -> str:
        """The command that holds the lock of the deployment meanwhile."""
        return f"start --{self.mode}" if self.action is Action.START else self.action.value

    @property
    def _command(self) -> str:
        """The words that repeat this start."""
        if self.action is not Action.START:
            return f"bisnesctl {self.action}"
        words = ["bisnesctl", "start", f"--{self.mode}", *(["--sandbox"] if self.deployment.settings.sandbox else [])]
        return " ".join(words + (["--only", *self.only] if self.only else []))

    @property
    def _recorded_action(self) -> str:
        return command_records.HEAL if self.healing else self.action.value

    def _check(self, found: Observation, wanted: list[Instance]) -> None:
        make_folders(self.deployment.settings)
        if found.condition is Condition.SILENT:
            raise Conflict("supervisord does not answer; `bisnesctl stop` ends it and all its processes")
        running = found.condition is Condition.RUNNING
        if running:
            self._check_sandbox()
        elif found.condition is not Condition.GONE:
            end_supervisor(self.deployment, found.condition, self.report, on_purpose=False)
        active = {each.program.name for each in found.active}
        idle = [each for each in wanted if each.program.name not in active]
        preflight.check(self.deployment.settings, self.mode, idle, self.report, orphans=not running)

    def _check_sandbox(self) -> None:
        """A running deployment never switches between the sandbox and real providers."""
        last, sandbox = self.deployment.last_start, self.deployment.settings.sandbox
        if last is None or last.sandbox == sandbox:
            return
        running, wanted = ("in", "without") if last.sandbox else ("without", "in")
        raise Conflict(
            f"this deployment runs {running} the sandbox; to start it {wanted} the sandbox, stop it first: "
            "`bisnesctl stop`"
        )

    def _configure(self, wanted: list[Instance]) -> None:
        """Writes supervisord's configuration, and makes a running or a new supervisord read it.

        A rollback or rollout leaves everything that runs as it is.
        """
        settings = self.deployment.settings
        variables = embedded_servers.prepare(settings, self.report)
        write_config(settings, self.deployment.instances, settings.run_dir, variables)
        if self.deployment.supervisor.running():
            apply = apply_changes if self.action is Action.START else add_programs
            apply(self.deployment, wanted, self.report)
            return
        self.report("starting supervisord")
        own = {name: text for name, text in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        environment = {**own, "BISNES_ENV": str(settings.env_file)}
        self.launched = True
        self.child = launch(self.deployment.supervisor, self.deployment.config, self.foreground, environment)

    def _start_in_order(self, wanted: list[Instance]) -> None:
        """The guard first, then the servers, then the programs that need them."""
        optional = [each for each in wanted if self.mode in each.program.optional_in]
        needed = [each for each in wanted if each not in optional]
        self._begin([each for each in needed if each.program.is_listener])
        self._try(optional)
        self._bring_up([each for each in needed if each.program.is_server])
        self._prepare()
        self._bring_up([each for each in needed if not each.program.is_server])

    def _prepare(self) -> None:
        """Prepares the database, or only checks it, and checks Redis. A rollback continues without PostgreSQL."""
        settings, migrates = self.deployment.settings, self.action is Action.START
        try:
            if migrates:
                prepare_database(settings, self.report, self.accept_lost)
            else:
                check_migrated(settings)
            if self.mode is Mode.MULTIPROCESS or self.beside:  # the legacy process works without it
                check_redis(settings)
        except DatabaseUnavailable as error:
            if self.action is not Action.ROLLBACK:
                raise
            self.without_database = str(error)
        if migrates:
            check_machine(settings, self.report, self.adopt_media_store)

    def _bring_up(self, instances: list[Instance]) -> None:
        self._begin(instances)
        if self.without_database:  # they live, and are ready once PostgreSQL is
            instances = [_alive(each) for each in instances]
        degraded = bool(self.without_database)
        wait_healthy(self.deployment, instances, self.report, reported=self.started, degraded=degraded)

    def _try(self, instances: list[Instance]) -> None:
        try:
            self._begin(instances)
        except BisnesError as error:
            self.report(f"[yellow]continuing without[/] {names_of(instances)}: {error}")

    def _begin(self, instances: list[Instance]) -> None:
        idle = inactive(self.deployment, instances, self.report)
        if idle:
            self.report(f"starting {names_of(idle)}")
        self.started += idle
        for instance in idle:
            self.deployment.supervisor.start(instance.full_name)

    def _take_over(self) -> None:
        """Hands every bot of the other side over to this one. Without PostgreSQL, that is left to `alerts`."""
        if self.without_database:
            self.report(
                f"[yellow]no bot was handed over[/]: {self.without_database}. Messages wait until PostgreSQL answers; "
                "then the program alerts hands over all bots"
            )
            return
        side = Side(self.mode)
        introduce = self.action is Action.ROLLBACK
        done = handover.take_all(self.deployment.settings, side, self.action.value, introduce, self.patience)
        if done.moved:
            self.report(done.sentence(side))

    def _stop_other_mode(self) -> None:
        while others := [each for each in self.deployment.unsettled() if self.mode not in each.program.modes]:
            self.report(f"stopping {names_of(others)} after they have finished their current work")
            stop_in_order(self.deployment, others, self.report, announced=False)

    def _record(self, wanted: list[Instance]) -> None:
        settings, before = self.deployment.settings, self.deployment.last_start
        only = self.only
        if before is not None and self.child is None and before.mode is self.mode:
            only = tuple(dict.fromkeys((*before.only, *only))) if before.only and only else ()
        record_start(settings.run_dir, self.mode, settings.sandbox, only, self._stays_beside(before))
        stop_records.remove(settings.run_dir, [each.name for each in wanted])

    def _stays_beside(self, before: LastStart | None) -> bool:
        """Whether the other mode's programs run too from now on. A start of some programs does not change that."""
        return self.beside or bool(self.only and before and before.beside)

    def _undo(self) -> None:
        """Stops what this start began, and nothing else."""
        with suppress(BisnesError):
            if self.launched:
                stop_all(self.deployment, self.report, on_purpose=False)
            elif self.started:
                self.report(f"stopping {names_of(self.started)} again")
                stop_together(self.deployment, self.started, self.report)


def _alive(instance: Instance) -> Instance:
    """The instance, which counts as healthy once it answers at all."""
    if instance.program.health_path != Program.health_path:
        return instance
    return replace(instance, program=replace(instance.program, health_path=LIVE_PATH))


def inactive(deployment: Deployment, instances: Iterable[Instance], report: Report) -> list[Instance]:
    """The instances that do not run, after waiting for those that are stopping."""
    wanted = list(instances)
    processes = deployment.supervisor.processes()
    stopping = [each for each in wanted if (at := processes.get(each.name)) and at.state == "STOPPING"]
    if stopping:
        wait_stopped(deployment, stopping, report, time.monotonic())
        processes = deployment.supervisor.processes()
    return [each for each in wanted if not ((at := processes.get(each.name)) and at.active)]


def launch(
    supervisor: Supervisor, config: Path, foreground: bool, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Starts supervisord with `config`, and waits until it answers.

    It is a daemon, or in the foreground a child that ends with this process. Raises `StartFailed` with its output.
    """
    # -P: a checkout in the working directory must not replace the modules of the release.
    command = [sys.executable, "-P", "-m", SUPERVISORD, "-c", str(config)]
    if foreground:
        command = ["setpriv", "--pdeathsig", "TERM", "--", *command, "--nodaemon", "--silent"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        umask=0o077,  # its own log is opened before it sets the umask of its configuration
    )
    if not foreground:
        _wait_for_daemon(child)
    _wait_until_up(supervisor, child)
    return child


def _wait_for_daemon(child: subprocess.Popen[bytes]) -> None:
    try:
        output, _ = child.communicate(timeout=BOOT_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        child.kill()
        raise StartFailed(f"supervisord did not start within {BOOT_TIMEOUT_SECONDS} s") from error
    if child.returncode:
        raise StartFailed(f"supervisord did not start: {output.decode(errors='replace').strip()}")


def _wait_until_up(supervisor: Supervisor, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
    while not supervisor.running():
        if child.poll():
            output = child.stdout.read().decode(errors="replace").strip() if child.stdout else ""
            raise StartFailed(f"supervisord ended with {child.returncode}: {output}")
        if time.monotonic() > deadline:
            raise StartFailed(f"supervisord does not answer on {supervisor.path}: see `bisnesctl logs supervisord`")
        time.sleep(_BOOT_POLL_SECONDS)


def prepare_database(settings: Settings, report: Report, accept_lost: bool = False) -> None:
    """Migrates the embedded database, or checks that an external one is migrated; then registers OPERATOR_KEY.

    Raises `DatabaseUnavailable`, `MigrationsPending`, `MigrationError`, or `ConfigError` if ENCRYPTION_KEY is not the
    key of the stored credentials, or PostgreSQL allows too few connections.
    """
    with postgres.command_connection(settings) as connection:
        credentials.check(connection, settings, report, accept_lost)
        if not settings.embedded_postgres:
            preflight.check_connections(connection, settings, report)
    if settings.embedded_postgres:
        applied = migrations.apply(settings.database_dsn, report=report)
        if applied:
            report(f"database: {len(applied)} migrations applied")
    else:
        check_migrated(settings)
    register_operator_key(settings)


def check_machine(settings: Settings, report: Report, adopt_media_store: bool) -> None:
    """Checks that this machine may work on the database beside others, and registers its media store.

    Raises `Conflict` if another deployment has the same names, `ConfigError` if the media store is another one. An
    embedded database has no other machines, so a new folder is adopted.
    """
    with postgres.command_connection(settings) as connection:
        deployments.wait_until_alone(connection, settings, report)
        media_store.check(connection, settings, adopt_media_store or settings.embedded_postgres)


def check_migrated(settings: Settings) -> None:
    """Raises `DatabaseUnavailable`, or `MigrationsPending` that names the missing migrations."""
    postgres.check_usable(settings)
    pending = migrations.pending(settings.database_dsn)
    if pending:
        raise MigrationsPending(f"the database lacks {', '.join(pending)}: run `bisnesctl migrate`, then start again")


def register_operator_key(settings: Settings) -> None:
    """Registers OPERATOR_KEY as an operator's key; if it was revoked, it stays revoked."""
    key = settings.operator_key.get_secret_value()
    if not key:
        return
    with postgres.command_connection(settings) as connection:
        api_keys.register(connection, key, None, OPERATOR_LABEL)


def check_redis(settings: Settings) -> None:
    """Raises `RedisUnavailable` that names the address, without its password."""
    health = probes.redis(settings.redis_dsn)
    if not health.healthy:
        field = "redis_url" if settings.redis_url is not None else "redis_host"
        place = "`bisnesctl logs redis`" if settings.embedded_redis else settings.where(field)
        raise RedisUnavailable(f"Redis{_address(settings.redis_dsn)}: {health.reason}. See {place}")


def _address(url: str) -> str:
    """The address in a URL, for a message; empty if it may have parts of the password."""
    if addresses.ends_early(url):
        return ""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f" at {parts.path}"
    try:
        return f" at {addresses.host_and_port(parts.hostname or '', parts.port or 6379)}"
    except ValueError:  # the port is no number
        return ""
