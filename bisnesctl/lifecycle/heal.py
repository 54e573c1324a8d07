"""Starts again what is down though nobody stopped it, at most a few times an hour. cron does it every minute.

The guard restarts what ends by itself. This is for what the guard cannot do: supervisord or the guard itself is down,
the guard gave up, or a process was stopped behind our back.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bisnesctl.errors import BisnesError, Conflict
from bisnesctl.health.guard_file import GUARD, GuardStatus, guard_status
from bisnesctl.host import disk
from bisnesctl.lifecycle.start import Start
from bisnesctl.lifecycle.stop import Report, end_supervisor, stop_together
from bisnesctl.naming import SUPERVISORD
from bisnesctl.processes import command_records, stop_records
from bisnesctl.processes.deployment import Condition, Deployment
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance

#: The file that counts, below `run_dir`.
HEAL_FILE = "heal.json"
#: Seconds for which a restart counts.
COUNTED_SECONDS = 3600.0
#: Seconds for which supervisord or the guard must be silent before it is ended. One check never suffices.
SILENCE_SECONDS = 45.0
#: Seconds after which a silence that was noticed does not count any more.
FORGOTTEN_SECONDS = 300.0


@dataclass(frozen=True)
class HealRecord:
    """The past of one thing. Times are seconds since the epoch."""

    #: Times at which it was started again.
    started: tuple[float, ...] = ()
    #: When it was first silent; None if it was not at the last check.
    silent_since: float | None = None
    checked_at: float = 0.0


@dataclass
class _Ledger:
    """The records of all things, in their file."""

    run_dir: Path
    limit: int
    now: float
    records: dict[str, HealRecord] = field(default_factory=dict)

    def allow(self, name: str, report: Report) -> bool:
        """Whether it may be started again. Counts it if so; the count is written before the start."""
        record = self.records.get(name, HealRecord())
        recent = tuple(at for at in record.started if 0 <= self.now - at < COUNTED_SECONDS)
        if len(recent) >= self.limit:
            report(
                f"{name} is down, and was started {len(recent)} times within an hour already: see `bisnesctl status`"
            )
            return False
        self.records[name] = HealRecord((*recent, self.now))
        self.write()
        report(
            f"{name} is down though nobody stopped it: starting it ({len(recent) + 1} of {self.limit} within an hour)"
        )
        return True

    def is_silent(self, name: str, silent: bool) -> bool:
        """Whether it has been silent for long enough at each check."""
        record = self.records.get(name, HealRecord())
        since = record.silent_since if self.now - record.checked_at < FORGOTTEN_SECONDS else None
        since = (self.now if since is None else since) if silent else None
        self.records[name] = HealRecord(record.started, since, self.now)
        self.write()
        return since is not None and self.now - since >= SILENCE_SECONDS

    def write(self) -> None:
        """Raises `CannotWrite`: what is not counted is not started."""
        content = json.dumps({name: asdict(each) for name, each in self.records.items()}).encode()
        with disk.writing(self.run_dir / HEAL_FILE):
            disk.refresh(self.run_dir / HEAL_FILE, content)


def _read(run_dir: Path) -> dict[str, HealRecord]:
    try:
        found = json.loads((run_dir / HEAL_FILE).read_text())
        return {
            name: HealRecord(tuple(each["started"]), each["silent_since"], float(each["checked_at"]))
            for name, each in found.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def heal(deployment: Deployment, report: Report) -> list[str]:
    """Starts again what is down though nobody stopped it; returns the names of what it started.

    Raises `Conflict` if another command is running, `StartFailed` or another `BisnesError` if a start fails.
    """
    if deployment.last_start is None or deployment.was_stopped:
        return []
    ledger = _ledger(deployment)
    match deployment.condition():
        case Condition.GONE:
            return _start_all(deployment, ledger, report)
        case Condition.SILENT:
            if not ledger.is_silent(SUPERVISORD, True):
                report("supervisord does not answer: it is ended if it does not answer at the next check either")
                return []
            return _start_all(deployment, ledger, report)
        case Condition.RUNNING:
            ledger.is_silent(SUPERVISORD, False)
            return _start_some(deployment, ledger, report)
    return []


def _ledger(deployment: Deployment) -> _Ledger:
    settings = deployment.settings
    return _Ledger(settings.run_dir, settings.heal_restarts_per_hour, time.time(), _read(settings.run_dir))


def _start_all(deployment: Deployment, ledger: _Ledger, report: Report) -> list[str]:
    last = deployment.last_start
    if last is None or not ledger.allow(SUPERVISORD, report):
        return []
    if deployment.condition() is Condition.SILENT:
        with deployment.lock("cron heal", patience_seconds=0):
            end_supervisor(deployment, Condition.SILENT, report, on_purpose=False)
    Start(deployment, last.mode, report, last.only, beside=last.beside, healing=True).run()
    return [SUPERVISORD]


def _start_some(deployment: Deployment, ledger: _Ledger, report: Report) -> list[str]:
    """Looks again under the lock, so that no operator's command is undone."""
    if not _find_down(deployment) and not _is_guard_silent(deployment, ledger):
        return []
    with deployment.lock("cron heal", patience_seconds=0):
        if deployment.was_stopped:
            return []
        started = []
        if _is_guard_silent(deployment, ledger):
            _end_guard(deployment, report)
        for instance in _find_down(deployment):
            if ledger.allow(instance.name, report):
                command_records.write(deployment.settings.run_dir, command_records.HEAL, [instance])
                deployment.supervisor.start(instance.full_name)
                started.append(instance.name)
    return started


def _is_guard_silent(deployment: Deployment, ledger: _Ledger) -> bool:
    """Whether the guard runs but does nothing."""
    processes = deployment.processes()
    guard = processes.get(GUARD)
    silent = guard is not None and guard.active and bool(guard_status(processes, deployment.settings).off_duty)
    return ledger.is_silent(GUARD, silent)


def _end_guard(deployment: Deployment, report: Report) -> None:
    """After this it is down, and started like anything else."""
    report("the guard gives no heartbeat: ending it")
    guards = [each for each in deployment.expected() if each.name == GUARD]
    try:
        stop_together(deployment, guards, report)
    except BisnesError as error:
        raise Conflict(f"the guard does not end: {error}") from error


def _find_down(deployment: Deployment) -> list[Instance]:
    """The instances that are down, in order of start. The manager starts the sessions."""
    processes = deployment.processes()
    guard = guard_status(processes, deployment.settings)
    stops = stop_records.read(deployment.settings.run_dir)
    candidates = [each for each in deployment.expected() if not each.program.dynamic and each.name not in stops]
    return [each for each in candidates if is_down(each, processes, guard)]


def is_down(instance: Instance, processes: Mapping[str, Process], guard: GuardStatus) -> bool:
    """Whether an instance does not run and nobody is going to start it."""
    process = processes.get(instance.name)
    if process is None or process.active:
        return False
    if not process.settled and process.exit_status in instance.program.final_exits:
        return False
    decided = guard.decisions.get(instance.name)
    if guard.off_duty:  # nobody acts on its decisions
        return decided is None or decided.decision != "block"
    return decided.decision == "fail" if decided is not None else process.settled
