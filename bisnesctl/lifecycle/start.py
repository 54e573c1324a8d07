"""Starts a mode, as steps. Each step is harmless if it was done before."""

import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bisnesctl.bots.ownership import Side
from bisnesctl.database import process_health
from bisnesctl.errors import BisnesError, Conflict, DatabaseUnavailable
from bisnesctl.health import supervisor_ends
from bisnesctl.health.inspection import inspect
from bisnesctl.health.probes import Status
from bisnesctl.lifecycle import handover, preflight
from bisnesctl.lifecycle.readiness import wait_healthy
from bisnesctl.lifecycle.restart import add_programs, apply_changes
from bisnesctl.lifecycle.stop import Report, end_supervisor, stop_all, stop_in_order, stop_together, wait_stopped
from bisnesctl.processes import (
    command_records,
    embedded_servers,
    failed_start,
    known_good,
    stop_records,
    supervisor,
    topology,
)
from bisnesctl.processes.deployment import Condition, Deployment, LastStart, Observation, make_folders, record_start
from bisnesctl.processes.render import write_config
from bisnesctl.processes.topology import Instance, Kind, Mode, Program, names_of

#: The path under which a program answers that lives, although its servers may not.
LIVE_PATH = "/health/live"
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
            found = replace(found, wanted=self.deployment.wanted(self.mode, self.only, self.beside))
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
        preflight.check(self.deployment.settings, idle, self.report, orphans=not running)
        preflight.warn_of_exposure(idle, self.report)
        if self.mode is Mode.MULTIPROCESS and (warning := preflight.missing_wa_js(self.deployment.settings)):
            self.report(f"[yellow]{warning}[/]")

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
        self.child = supervisor.launch(self.deployment.supervisor, self.deployment.config, self.foreground, environment)

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
        """Prepares the servers. A rollback continues without PostgreSQL."""
        settings, migrate = self.deployment.settings, self.action is Action.START
        needs_redis = self.mode is Mode.MULTIPROCESS or self.beside  # the legacy process works without it
        try:
            preflight.prepare_servers(settings, self.report, migrate, needs_redis, self.accept_lost)
        except DatabaseUnavailable as error:
            if self.action is not Action.ROLLBACK:
                raise
            self.without_database = str(error)
        if migrate:
            preflight.check_machine(settings, self.report, self.adopt_media_store)

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

    def summary(self) -> list[str]:
        """A summary of the processes that run now, in lines with markup."""
        lines = []
        if not self.started and self.child is None:
            lines.append("everything runs already and is healthy")
        apis = [each for each in self.deployment.active() if each.program.kind is Kind.API]
        where = f"API [b]{apis[0].url}[/], documented at /openapi/swagger; " if apis else ""
        sandbox = " in the sandbox" if self.deployment.settings.sandbox else ""
        next_steps = "`bisnesctl status`, `bisnesctl logs -f`, `bisnesctl stop`"
        return [*lines, f"running{sandbox} ({self.mode}): {where}{next_steps}", *self._differences()]

    def _differences(self) -> Iterator[str]:
        """Names what runs with settings that have changed since, because a start leaves it as it is."""
        processes = self.deployment.processes()
        for name, health in inspect(self.deployment, self.deployment.shown(processes), processes).items():
            if health.status in (Status.OUTDATED, Status.EXTRA):
                yield f"[yellow]{name} is {health.status}[/]: {health.reason}"


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
