"""Starting, stopping, and changing the mode, as steps. Each step is harmless where it was done before."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from bisnesctl.errors import BisnesError, CannotWrite, Conflict, StartFailed
from bisnesctl.health import exit_log, log_files, probes
from bisnesctl.health.probes import Health, Status
from bisnesctl.host import disk
from bisnesctl.lifecycle import database_setup, orphans, preflight
from bisnesctl.processes import embedded_servers, last_start, supervisor, template_variables
from bisnesctl.processes.deployment import Condition, Deployment, make_folders
from bisnesctl.processes.render import SESSIONS, render
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance, Mode, in_mode

#: Seconds that everything of one step has to become healthy.
START_TIMEOUT = 90.0
#: Deaths in a row after which a start is given up; a server may have to wait for its predecessor's lock.
ATTEMPTS, SERVER_ATTEMPTS = 3, 6
#: Seconds between two looks.
_INTERVAL = 0.1
#: Seconds beyond a program's kill timeout until its end is not waited for any more.
_STOP_MARGIN = 5.0
#: Lines of a log that an error shows.
_LOG_LINES = 12

Report = Callable[[str], None]


@dataclass
class Start:
    """One start: what is wanted, and what it did so far, for the case that it must be undone."""

    deployment: Deployment
    mode: Mode
    report: Report
    only: tuple[str, ...] = ()
    foreground: bool = False
    #: A rollback takes the database as it is.
    migrate: bool = True
    #: Our supervisord, where this start launched it.
    child: subprocess.Popen[bytes] | None = None
    started: list[Instance] = field(default_factory=list)

    def run(self) -> None:
        """Starts what is wanted, waits until it is healthy, then stops what the other mode left running.

        Raises a `BisnesError` that says what failed; then everything that this start began has been stopped.
        """
        wanted = in_mode(self.deployment.instances, self.mode, self.only)
        fixed = [each for each in wanted if not each.program.dynamic]  # their manager starts the others
        self._check(fixed)
        try:
            self._bring_up_all(fixed)
        except BaseException:
            self._undo()
            raise
        if not self.only:
            self._hand_over()
        self._note()

    def _check(self, wanted: list[Instance]) -> None:
        preflight.check_installed()
        preflight.check_secrets(self.deployment.settings)
        make_folders(self.deployment.settings)
        self._check_supervisor()
        self._check_sandbox()
        active = self.deployment.active()
        preflight.check_ports(each for each in wanted if not any(each.program is other.program for other in active))

    def _check_supervisor(self) -> None:
        condition = self.deployment.condition()
        if condition is Condition.RUNNING:
            return
        if condition is Condition.SILENT:
            raise Conflict("supervisord does not answer; `bisnesctl stop` ends it and all its processes")
        end_supervisor(self.deployment, condition, self.report)
        left = orphans.find(self.deployment.settings)
        if left:
            self.report(f"waiting for {', '.join(sorted(set(left.values())))} of an earlier run to end")
            orphans.wait(left)

    def _check_sandbox(self) -> None:
        """The sandbox must not become the real thing, nor the other way round, by a slip."""
        before, sandbox = self.deployment.state, self.deployment.settings.sandbox
        if before is None or before.sandbox == sandbox or not self.deployment.supervisor.running():
            return
        running, asked = ("in the sandbox", "for real") if before.sandbox else ("for real", "in the sandbox")
        raise Conflict(f"this runs {running} already; to start it {asked}, stop it first: `bisnesctl stop`")

    def _bring_up_all(self, wanted: list[Instance]) -> None:
        self._configure()
        servers = [each for each in wanted if each.program.is_server]
        rest = [each for each in wanted if not each.program.is_server]
        self._begin([each for each in rest if each.program.is_listener])
        if self.mode is Mode.LEGACY:  # which needs neither Redis nor the guard, and must come up without them
            servers = [each for each in servers if each.program.name != "redis"]
            rest = [each for each in rest if not each.program.is_listener]
            self._try([each for each in wanted if each.program.is_server and each not in servers])
        self._bring_up(servers)
        if self.migrate:
            database_setup.make_ready(self.deployment.settings, self.report)
        if self.mode is not Mode.LEGACY:
            database_setup.check_redis(self.deployment.settings)
        self._bring_up(rest)

    def _configure(self) -> None:
        """Writes supervisord's configuration and has it read by a running or a new supervisord."""
        settings = self.deployment.settings
        embedded_servers.prepare(settings, self.report)
        write_config(self.deployment, settings.run_dir)
        if self.deployment.supervisor.running():
            self.started += apply_changes(self.deployment, self.report)
            return
        self.report("starting supervisord")
        environment = {**os.environ, "BISNES_ENV": str(settings.env_file)}
        self.child = supervisor.launch(self.deployment.config, self.foreground, environment)
        supervisor.wait_until_up(self.deployment.supervisor, self.child)

    def _bring_up(self, instances: list[Instance]) -> None:
        self._begin(instances)
        wait_healthy(self.deployment, instances, self.report, tell_of=self.started)

    def _try(self, instances: list[Instance]) -> None:
        try:
            self._begin(instances)
        except BisnesError as error:
            self.report(f"[yellow]going on without[/] {_names(instances)}: {error}")

    def _begin(self, instances: list[Instance]) -> None:
        idle = inactive(self.deployment, instances)
        if idle:
            self.report(f"starting {_names(idle)}")
        self.started += idle
        for instance in idle:
            self.deployment.supervisor.start(instance.full_name)

    def _hand_over(self) -> None:
        while others := [each for each in self.deployment.unsettled() if self.mode not in each.program.modes]:
            self.report(f"stopping {_names(others)}, which finish what is in their hands")
            stop_in_turn(self.deployment, others)

    def _note(self) -> None:
        settings, before = self.deployment.settings, self.deployment.state
        only = self.only
        if before is not None and self.child is None and before.mode is self.mode:
            only = tuple(dict.fromkeys((*before.only, *only))) if before.only and only else ()
        last_start.write(settings.run_dir, self.mode, settings.sandbox, only)

    def _undo(self) -> None:
        """Stops what this start began, and nothing else."""
        with suppress(BisnesError):
            if self.child is not None:
                stop_all(self.deployment, self.report)
            elif self.started:
                self.report(f"stopping {_names(self.started)} again")
                stop_instances(self.deployment, self.started)


def write_config(deployment: Deployment, directory: Path) -> list[Path]:
    """Writes supervisord's configuration below `directory` and returns the paths. Raises `CannotWrite`."""
    settings = deployment.settings
    files = render(settings, deployment.instances, template_variables.words(settings))
    with disk.writing(directory / SESSIONS):
        (directory / SESSIONS).mkdir(mode=0o700, parents=True, exist_ok=True)
    return [file.write(directory) for file in files]


def apply_changes(deployment: Deployment, report: Report, groups: set[str] | None = None) -> list[Instance]:
    """Has a running supervisord take up its new configuration; what runs with an old one is started anew.

    `groups`: the groups to which it is limited. Returns the instances of the new configuration that it started.
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


def inactive(deployment: Deployment, instances: Iterable[Instance]) -> list[Instance]:
    """Those that do not run; what is about to stop is waited for."""
    wanted = list(instances)
    processes = deployment.supervisor.processes()
    stopping = [each for each in wanted if (at := processes.get(each.name)) and at.state == "STOPPING"]
    if stopping:
        wait_stopped(deployment, stopping)
        processes = deployment.supervisor.processes()
    return [each for each in wanted if not ((at := processes.get(each.name)) and at.active)]


def wait_healthy(
    deployment: Deployment, instances: Sequence[Instance], report: Report, tell_of: Sequence[Instance] | None = None
) -> None:
    """Waits until all are healthy, and tells of each or of some.

    Raises `StartFailed` with the reason and the last log lines.
    """
    waiting, began = list(instances), time.monotonic()
    pids: dict[str, set[int]] = {each.name: set() for each in waiting}
    while waiting:
        processes = deployment.supervisor.processes()
        health = probes.look(waiting, processes, deployment.settings)
        for instance in [each for each in waiting if health[each.name].healthy]:
            waiting.remove(instance)
            if tell_of is None or instance in tell_of:
                report(f"[green]✓[/] {instance.name} is healthy ({time.monotonic() - began:.1f} s)")
        for instance in waiting:
            process = processes.get(instance.name)
            pids[instance.name].add(process.pid if process else 0)
            late = time.monotonic() - began > START_TIMEOUT
            if late or _hopeless(instance, health[instance.name], len(pids[instance.name] - {0})):
                raise StartFailed(_explain(deployment, instance, health[instance.name]))
        time.sleep(_INTERVAL if waiting else 0)


def _hopeless(instance: Instance, health: Health, attempts: int) -> bool:
    limit = SERVER_ATTEMPTS if instance.program.is_server else ATTEMPTS
    given_up = health.status in (Status.FAILED, Status.BLOCKED)
    return given_up or (health.status is Status.FAILING and max(attempts, health.deaths) >= limit)


def _explain(deployment: Deployment, instance: Instance, health: Health) -> str:
    died = exit_log.read(deployment.settings.log_dir / "supervisord.log").get(instance.name)
    reasons = [health.reason or health.status.value, *([died.last] if died and died.last not in health.reason else [])]
    lines = [f"{instance.name} did not become healthy: {'; '.join(reasons)}"]
    for file in log_files.files_of(deployment.settings.log_dir, instance.name):
        last = log_files.tail(file.path, _LOG_LINES)
        lines += [f"last lines of {file.path}:", *(f"  {line}" for line in last)] if last else []
    return "\n".join(lines)


def stop_all(deployment: Deployment, report: Report) -> bool:
    """Stops everything in reverse order, then supervisord. Returns whether there was anything to stop."""
    condition = deployment.condition()
    if condition is not Condition.RUNNING:
        return end_supervisor(deployment, condition, report)
    pid = deployment.supervisor.pid()
    stop_in_turn(deployment, deployment.unsettled(), report)
    deployment.supervisor.shutdown()
    _await_end(deployment, pid)
    _note_stop(deployment, report)
    return True


def end_supervisor(deployment: Deployment, condition: Condition, report: Report) -> bool:
    """Waits for a supervisord that is shutting down, and ends one that does not answer. Returns whether there was one.

    Its processes end with it.
    """
    pid = deployment.supervisor_pid()
    if pid is None:
        return False
    if condition is Condition.STOPPING:
        report(f"supervisord (pid {pid}) is about to end: waiting for it")
        _await_end(deployment, pid)
    else:
        _kill(pid, report)
    _note_stop(deployment, report)
    return True


def _note_stop(deployment: Deployment, report: Report) -> None:
    """It has stopped, whether or not that can be written down."""
    try:
        last_start.forget_since(deployment.settings.run_dir)
    except CannotWrite as error:
        report(f"[yellow]`bisnesctl status` will not say that it was stopped on purpose[/]: {error}")


def _await_end(deployment: Deployment, pid: int) -> None:
    """Asks for its state meanwhile: supervisord takes a second for each group otherwise."""
    deadline = time.monotonic() + 60
    while supervisor.lives(pid):
        deployment.supervisor.state()
        if time.monotonic() > deadline:
            raise BisnesError(f"supervisord (pid {pid}) does not end; its processes have stopped: `kill -9 {pid}`")
        time.sleep(0.02)


def _kill(pid: int, report: Report) -> None:
    report(f"supervisord (pid {pid}) does not answer: ending it")
    for signum, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
        deadline = time.monotonic() + patience
        while supervisor.lives(pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def stop_in_turn(deployment: Deployment, instances: Sequence[Instance], report: Report | None = None) -> None:
    """Stops these in the reverse order of their start, those of the same priority side by side.

    So a session's manager has ended before its sessions do, and cannot start them again.
    """
    order = sorted(instances, key=lambda each: -each.program.priority)
    for _, members in groupby(order, key=lambda each: each.program.priority):
        tier = list(members)
        if report is not None:
            report(f"stopping {_names(tier)}")
        stop_instances(deployment, tier)


def stop_instances(deployment: Deployment, instances: Sequence[Instance]) -> None:
    """Stops these side by side and waits for their end. Raises `BisnesError` where one does not end."""
    for instance in instances:
        deployment.supervisor.stop(instance.full_name)
    wait_stopped(deployment, instances)


def wait_stopped(deployment: Deployment, instances: Sequence[Instance]) -> None:
    """Waits until none of these runs, for as long as they may take. Raises `BisnesError` after."""
    longest = max((each.program.kill_timeout for each in instances), default=0)
    _wait_stopped(deployment, {each.name for each in instances}, longest)


def _stop_processes(deployment: Deployment, running: Sequence[Process]) -> None:
    """Stops processes that the new configuration may not know any more."""
    for process in running:
        deployment.supervisor.stop(f"{process.group}:{process.name}")
    _wait_stopped(
        deployment,
        {each.name for each in running},
        max((each.program.kill_timeout for each in deployment.instances), default=0),
    )


def _wait_stopped(deployment: Deployment, names: set[str], kill_timeout: float) -> None:
    supervisor.wait_stopped(deployment.supervisor, names, kill_timeout + _STOP_MARGIN)


def restart(deployment: Deployment, instances: Sequence[Instance], report: Report) -> None:
    """Restarts these one after the other, each healthy before the next, so that those beside it keep serving.

    Raises `NotRunning` where there is no supervisord, `StartFailed` where one does not come back.
    """
    deployment.require_running()
    write_config(deployment, deployment.settings.run_dir)
    renewed = apply_changes(deployment, report, {each.group for each in instances})
    wait_healthy(deployment, renewed, report)
    for instance in (each for each in instances if each not in renewed):
        report(f"restarting {instance.name}")
        stop_instances(deployment, [instance])
        deployment.supervisor.start(instance.full_name)
        wait_healthy(deployment, [instance], report)


def _names(instances: Iterable[Instance]) -> str:
    return ", ".join(each.name for each in instances)
