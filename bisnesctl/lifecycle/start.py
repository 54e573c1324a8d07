"""Starts a mode, as steps. Each step is harmless if it was done before."""

import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from bisnesctl.database import process_health
from bisnesctl.errors import BisnesError, Conflict
from bisnesctl.health import supervisor_ends
from bisnesctl.health.inspection import inspect
from bisnesctl.health.probes import Status
from bisnesctl.lifecycle import preflight
from bisnesctl.lifecycle.readiness import wait_healthy
from bisnesctl.lifecycle.restart import add_programs, apply_changes
from bisnesctl.lifecycle.stop import Report, end_supervisor, stop_all, stop_in_order, stop_together, wait_stopped
from bisnesctl.processes import (
    command_records,
    embedded_servers,
    failed_start,
    stop_records,
    supervisor,
    topology,
)
from bisnesctl.processes.deployment import Condition, Deployment, Observation, make_folders, record_start
from bisnesctl.processes.render import write_config
from bisnesctl.processes.topology import Instance, Kind, Mode, names_of

#: Beginnings of the names of variables that supervisord does not inherit: those of another one, and of systemd.
_NOT_INHERITED = ("SUPERVISOR_", "NOTIFY_SOCKET")


@dataclass
class Start:
    """One start: what is wanted, and what was done so far, in case it must be undone."""

    deployment: Deployment
    mode: Mode
    report: Report
    only: tuple[str, ...] = ()
    foreground: bool = False
    #: False for a rollback, which leaves the database unchanged.
    migrate: bool = True
    #: Start although ENCRYPTION_KEY decrypts none of the stored credentials.
    accept_lost: bool = False
    #: Whether MEDIA_STORE becomes the store of the database, if it is another one.
    adopt_media_store: bool = False
    #: Whether cron starts what went down, which never happens against an operator's stop.
    healing: bool = False
    #: supervisord, if this start launched it.
    child: subprocess.Popen[bytes] | None = None
    #: Whether this start tried to launch supervisord.
    launched: bool = False
    started: list[Instance] = field(default_factory=list)

    def run(self) -> None:
        """Starts what is wanted, waits until it is healthy, then stops the instances of the other mode.

        If a step fails, everything that this start began is stopped. Raises a `BisnesError` with the reason.
        """
        with self.deployment.observed(f"start --{self.mode}", self.mode, self.only, self.report) as found:
            if self.healing and self.deployment.was_stopped:
                raise Conflict("an operator stopped it meanwhile")
            try:
                self._run(found)
            except (BisnesError, KeyboardInterrupt) as error:
                if found.condition is Condition.GONE and not self.healing:
                    failed_start.record(self.deployment.settings.run_dir, self._command, error)
                raise

    def _run(self, found: Observation) -> None:
        fixed = [each for each in found.wanted if not each.program.dynamic]  # the manager starts the sessions
        self._check(found, fixed)
        if found.condition is Condition.GONE and (end := supervisor_ends.find(self.deployment)):
            supervisor_ends.record(self.deployment, end)
        active = {each.name for each in found.active}
        idle = [each for each in found.wanted if each.name not in active]
        command_records.write(self.deployment.settings.run_dir, self._action, idle)
        try:
            self._configure(found.wanted)
            self._start_in_order(fixed)
        except BaseException:
            self._undo()
            raise
        if not self.only:
            self._stop_other_mode()
            process_health.forget(self.deployment.settings, topology.processes_of_other_modes(self.mode))
        self._record(found.wanted)

    @property
    def _command(self) -> str:
        """The words that repeat this start."""
        if not self.migrate:
            return "bisnesctl rollback"
        words = ["bisnesctl", "start", f"--{self.mode}", *(["--sandbox"] if self.deployment.settings.sandbox else [])]
        return " ".join(words + (["--only", *self.only] if self.only else []))

    @property
    def _action(self) -> str:
        if self.healing:
            return command_records.HEAL
        return "start" if self.migrate else "rollback"

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

        A rollback leaves everything that runs as it is.
        """
        settings = self.deployment.settings
        variables = embedded_servers.prepare(settings, self.report)
        write_config(settings, self.deployment.instances, settings.run_dir, variables)
        if self.deployment.supervisor.running():
            apply = apply_changes if self.migrate else add_programs
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
        needs_redis = self.mode is Mode.MULTIPROCESS  # the legacy process works without it
        settings = self.deployment.settings
        preflight.prepare_servers(settings, self.report, self.migrate, needs_redis, self.accept_lost)
        if self.migrate:
            preflight.check_machine(settings, self.report, self.adopt_media_store)
        self._bring_up([each for each in needed if not each.program.is_server])

    def _bring_up(self, instances: list[Instance]) -> None:
        self._begin(instances)
        wait_healthy(self.deployment, instances, self.report, reported=self.started)

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

    def _stop_other_mode(self) -> None:
        while others := [each for each in self.deployment.unsettled() if self.mode not in each.program.modes]:
            self.report(f"stopping {names_of(others)} after they have finished their current work")
            stop_in_order(self.deployment, others, self.report, announced=False)

    def _record(self, wanted: list[Instance]) -> None:
        settings, before = self.deployment.settings, self.deployment.last_start
        only = self.only
        if before is not None and self.child is None and before.mode is self.mode:
            only = tuple(dict.fromkeys((*before.only, *only))) if before.only and only else ()
        record_start(settings.run_dir, self.mode, settings.sandbox, only)
        stop_records.remove(settings.run_dir, [each.name for each in wanted])

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


def inactive(deployment: Deployment, instances: Iterable[Instance], report: Report) -> list[Instance]:
    """The instances that do not run, after waiting for those that are stopping."""
    wanted = list(instances)
    processes = deployment.supervisor.processes()
    stopping = [each for each in wanted if (at := processes.get(each.name)) and at.state == "STOPPING"]
    if stopping:
        wait_stopped(deployment, stopping, report, time.monotonic())
        processes = deployment.supervisor.processes()
    return [each for each in wanted if not ((at := processes.get(each.name)) and at.active)]
