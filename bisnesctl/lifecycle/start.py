"""Starts a mode, and restarts instances, as steps. Each step is harmless if it was done before."""

import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bisnesctl.errors import BisnesError, Conflict, StartFailed
from bisnesctl.health import log_files, probes
from bisnesctl.health.probes import Health, Status
from bisnesctl.lifecycle import preflight
from bisnesctl.lifecycle.stop import (
    STOP_MARGIN_SECONDS,
    Report,
    end_supervisor,
    stop_all,
    stop_in_order,
    stop_together,
    wait_stopped,
)
from bisnesctl.processes import embedded_servers, supervisor
from bisnesctl.processes.deployment import Condition, Deployment, Observation, make_folders, record_start
from bisnesctl.processes.render import write_config
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance, Mode, names_of

#: Seconds in which the instances of one step must become healthy.
START_TIMEOUT_SECONDS = 90.0
#: Deaths in a row after which a start fails.
MAX_ATTEMPTS = 3
#: The same for an embedded server, which may have to wait for its predecessor's lock.
MAX_SERVER_ATTEMPTS = 6
#: Seconds between probes of instances that are not healthy yet.
_PROBE_INTERVAL_SECONDS = 0.1
#: Lines of a log that an error shows.
_LOG_LINES = 12


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
    #: supervisord, if this start launched it.
    child: subprocess.Popen[bytes] | None = None
    started: list[Instance] = field(default_factory=list)

    def run(self) -> None:
        """Starts what is wanted, waits until it is healthy, then stops the instances of the other mode.

        If a step fails, everything that this start began is stopped. Raises a `BisnesError` with the reason.
        """
        with self.deployment.lock(f"start --{self.mode}"):
            found = self.deployment.observe(self.mode, self.only)
            fixed = [each for each in found.wanted if not each.program.dynamic]  # the manager starts the sessions
            self._check(found, fixed)
            try:
                self._configure(found.wanted)
                self._start_in_order(fixed)
            except BaseException:
                self._undo()
                raise
            if not self.only:
                self._stop_other_mode()
            self._record()

    def _check(self, found: Observation, wanted: list[Instance]) -> None:
        make_folders(self.deployment.settings)
        if found.condition is Condition.SILENT:
            raise Conflict("supervisord does not answer; `bisnesctl stop` ends it and all its processes")
        running = found.condition is Condition.RUNNING
        if running:
            self._check_sandbox()
        elif found.condition is not Condition.GONE:
            end_supervisor(self.deployment, found.condition, self.report)
        active = {each.program.name for each in found.active}
        idle = [each for each in wanted if each.program.name not in active]
        preflight.check(self.deployment.settings, idle, self.report, orphans=not running)

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

        Other programs than the wanted ones run on as they are: a rollback must not stop what it replaces later.
        """
        settings = self.deployment.settings
        embedded_servers.prepare(settings, self.report)
        write_config(settings, self.deployment.instances, settings.run_dir)
        if self.deployment.supervisor.running():
            self.started += apply_changes(self.deployment, self.report, {each.group for each in wanted})
            return
        self.report("starting supervisord")
        environment = {**os.environ, "BISNES_ENV": str(settings.env_file)}
        self.child = supervisor.launch(self.deployment.config, self.foreground, environment)
        supervisor.wait_until_up(self.deployment.supervisor, self.child)

    def _start_in_order(self, wanted: list[Instance]) -> None:
        """The guard first, then the servers, then the programs that need them."""
        optional = [each for each in wanted if self.mode in each.program.optional_in]
        needed = [each for each in wanted if each not in optional]
        self._begin([each for each in needed if each.program.is_listener])
        self._try(optional)
        self._bring_up([each for each in needed if each.program.is_server])
        needs_redis = self.mode is Mode.MULTIPROCESS  # the legacy process works without it
        preflight.prepare_servers(self.deployment.settings, self.report, self.migrate, needs_redis)
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
        idle = inactive(self.deployment, instances)
        if idle:
            self.report(f"starting {names_of(idle)}")
        self.started += idle
        for instance in idle:
            self.deployment.supervisor.start(instance.full_name)

    def _stop_other_mode(self) -> None:
        while others := [each for each in self.deployment.unsettled() if self.mode not in each.program.modes]:
            self.report(f"stopping {names_of(others)} after they have finished their current work")
            stop_in_order(self.deployment, others)

    def _record(self) -> None:
        settings, before = self.deployment.settings, self.deployment.last_start
        only = self.only
        if before is not None and self.child is None and before.mode is self.mode:
            only = tuple(dict.fromkeys((*before.only, *only))) if before.only and only else ()
        record_start(settings.run_dir, self.mode, settings.sandbox, only)

    def _undo(self) -> None:
        """Stops what this start began, and nothing else."""
        with suppress(BisnesError):
            if self.child is not None:
                stop_all(self.deployment, self.report)
            elif self.started:
                self.report(f"stopping {names_of(self.started)} again")
                stop_together(self.deployment, self.started)


def restart(deployment: Deployment, instances: Sequence[Instance], report: Report) -> None:
    """Restarts instances one after the other, each healthy before the next, so that the others keep serving.

    Raises `NotRunning` if supervisord does not run, `StartFailed` if an instance does not come back.
    """
    deployment.require_running()
    write_config(deployment.settings, deployment.instances, deployment.settings.run_dir)
    restarted = apply_changes(deployment, report, {each.group for each in instances})
    wait_healthy(deployment, restarted, report)
    for instance in (each for each in instances if each not in restarted):
        report(f"restarting {instance.name}")
        stop_together(deployment, [instance])
        deployment.supervisor.start(instance.full_name)
        wait_healthy(deployment, [instance], report)


def apply_changes(deployment: Deployment, report: Report, groups: set[str] | None = None) -> list[Instance]:
    """Makes a running supervisord use its new configuration; instances whose configuration changed are restarted.

    `groups`: limits it to these groups. Returns the instances that it restarted.
    """
    changes, client = deployment.supervisor.reread().of(groups), deployment.supervisor
    gone = [*changes.changed, *changes.removed]
    ending = [each for each in client.processes().values() if each.group in gone and not each.settled]
    running = [each for each in ending if each.active]
    if running:
        report(f"the settings of {', '.join(each.name for each in running)} changed: stopping them")
    _stop_processes(deployment, ending)
    for group in gone:
        client.remove_group(group)
    for group in [*changes.added, *changes.changed]:
        client.add_group(group)
    names = {each.name for each in running}
    again = [each for each in deployment.instances if each.name in names]
    for instance in again:
        client.start(instance.full_name)
    return again


def _stop_processes(deployment: Deployment, running: Sequence[Process]) -> None:
    """Stops processes that may be missing in the new configuration."""
    for process in running:
        deployment.supervisor.stop(f"{process.group}:{process.name}")
    longest = max((each.program.kill_timeout for each in deployment.instances), default=0)
    supervisor.wait_stopped(deployment.supervisor, {each.name for each in running}, longest + STOP_MARGIN_SECONDS)


def inactive(deployment: Deployment, instances: Iterable[Instance]) -> list[Instance]:
    """The instances that do not run, after waiting for those that are stopping."""
    wanted = list(instances)
    processes = deployment.supervisor.processes()
    stopping = [each for each in wanted if (at := processes.get(each.name)) and at.state == "STOPPING"]
    if stopping:
        wait_stopped(deployment, stopping)
        processes = deployment.supervisor.processes()
    return [each for each in wanted if not ((at := processes.get(each.name)) and at.active)]


def wait_healthy(
    deployment: Deployment, instances: Sequence[Instance], report: Report, reported: Sequence[Instance] | None = None
) -> None:
    """Waits until all are healthy, and reports each of them, or only those in `reported`.

    Raises `StartFailed` with the reason and the last log lines.
    """
    waiting, began = list(instances), time.monotonic()
    pids: dict[str, set[int]] = {each.name: set() for each in waiting}
    while waiting:
        processes = deployment.supervisor.processes()
        health = probes.probe_all(waiting, processes, deployment.settings)
        for instance in [each for each in waiting if health[each.name].healthy]:
            waiting.remove(instance)
            if reported is None or instance in reported:
                report(f"[green]✓[/] {instance.name} is healthy ({time.monotonic() - began:.1f} s)")
        for instance in waiting:
            process = processes.get(instance.name)
            pids[instance.name].add(process.pid if process else 0)
            late = time.monotonic() - began > START_TIMEOUT_SECONDS
            if late or _has_failed(instance, health[instance.name], len(pids[instance.name] - {0})):
                raise StartFailed(_explain(deployment, instance, health[instance.name]))
        time.sleep(_PROBE_INTERVAL_SECONDS if waiting else 0)


def _has_failed(instance: Instance, health: Health, attempts: int) -> bool:
    limit = MAX_SERVER_ATTEMPTS if instance.program.is_server else MAX_ATTEMPTS
    too_many = health.status is Status.FAILING and max(attempts, health.deaths) >= limit
    return too_many or health.status in (Status.FAILED, Status.BLOCKED)


def _explain(deployment: Deployment, instance: Instance, health: Health) -> str:
    folder = deployment.settings.log_dir
    exits = log_files.read_exits(folder / "supervisord.log").get(instance.name)
    reasons = [health.reason or health.status.value]
    if exits and exits.last not in health.reason:
        reasons.append(exits.last)
    lines = [f"{instance.name} did not become healthy: {'; '.join(reasons)}"]
    for file in log_files.files_of(folder, instance.name):
        last = log_files.tail(file.path, _LOG_LINES)
        lines += [f"last lines of {file.path}:", *(f"  {line}" for line in last)] if last else []
    return "\n".join(lines)
