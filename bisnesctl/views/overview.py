"""The content of `bisnesctl status`: the deployment and its machine, each process, and the bots that need an operator.

Nothing here needs the services, PostgreSQL or Redis: what only they know is marked as unknown.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from bisnesctl import release
from bisnesctl.bots.check_records import BotTrouble
from bisnesctl.formatting import duration
from bisnesctl.health import guard_file, heartbeats, inspection, probes
from bisnesctl.health.exit_reasons import KILLED
from bisnesctl.health.resource_usage import Sample, Usage
from bisnesctl.host import volumes
from bisnesctl.host.process_times import uptime
from bisnesctl.logs import exits
from bisnesctl.naming import ALERTS
from bisnesctl.processes import selection as selections
from bisnesctl.processes import stop_records
from bisnesctl.processes.deployment import Condition, Deployment
from bisnesctl.processes.extras import left_out_explained
from bisnesctl.processes.failed_start import FailedStart
from bisnesctl.processes.selection import Selection, bot_of
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import PROGRAMS, Instance, Kind, memory_limit
from bisnesctl.retention.records import LATE_SECONDS, LastRun
from bisnesctl.rollout import duty
from bisnesctl.views import backlog, drift, machine
from bisnesctl.views.backlog import Backlog, Backlogs
from bisnesctl.views.drift import Drift
from bisnesctl.views.machine import Machine

#: Seconds in which a process must answer, so that `status` is quick.
STATUS_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class ProcessRow:
    """One process."""

    name: str
    program: str
    #: Its health, in one word of `probes.Status`.
    status: str
    pid: int | None
    uptime_seconds: float | None
    #: Of the process tree, in percent of one processor.
    cpu_percent: float | None
    #: Of the process tree.
    memory_bytes: int | None
    #: How often it ended by itself since it was stopped or restarted on purpose.
    restarts: int
    reason: str
    #: api, wwebjs, sessions, meta, events, dashboard or infrastructure.
    kind: str = Kind.INFRASTRUCTURE.value
    #: running or stopped.
    wanted: str = "running"
    #: supervisord's word in lower case: running, starting, stopping, stopped, exited, backoff, fatal or unknown; absent
    #: if it does not have the process.
    state: str = "running"
    #: How often it ended by itself within the last ten minutes.
    recent_restarts: int = 0
    #: At which its process tree is restarted; None: it has no limit.
    memory_limit_bytes: int | None = None
    #: Messages of its bot or channel, webhooks, or events that wait for it. None: not known, or nothing ever waits.
    waiting: int | None = None
    oldest_seconds: float | None = None
    #: The state of a WhatsApp Web session, such as WORKING; None: it is none, or not known.
    session: str | None = None
    #: The phone number that the session is linked to, in digits; None: none, or not known.
    linked_number: str | None = None
    #: The release that it runs; None: not known.
    release: str | None = None


@dataclass(frozen=True)
class Overview:
    """The deployment as a whole."""

    home: str
    mode: str | None
    sandbox: bool
    #: When it was started, by an operator or after an outage, in seconds since the epoch; None if it was stopped.
    since: float | None
    supervisor_pid: int | None
    #: running, stopping, stopped, died (not stopped by an operator), silent (supervisord does not answer) or new.
    condition: str
    #: The command that starts it as it was started last.
    start_command: str
    processes: list[ProcessRow]
    #: The bots that need an operator; empty if the database is unavailable.
    bots: list[BotTrouble]
    #: The disks that are nearly full or cannot be written.
    disks: list[volumes.DiskTrouble]
    #: The release that runs, or else the installed one.
    release: str
    machine: Machine
    #: Seconds since the guard's last heartbeat; None if it never gave one.
    guard_seen_seconds: float | None
    #: The same of the evaluator of alerts; None also if this release has none.
    alerts_seen_seconds: float | None
    #: Whether this release has an evaluator of alerts.
    has_alerts: bool
    #: Differences between the settings and code on disk, and those that run.
    drift: list[Drift] = field(default_factory=list)
    #: Why PostgreSQL was not read; empty if it was.
    database_unavailable: str = ""
    #: Why old rows are not deleted any more; empty if they are, or if that is not known.
    retention_late: str = ""
    #: The start that failed since the last one that succeeded or the last stop; None if there is none.
    failed_start: FailedStart | None = None
    #: Whether the programs of the other mode run too, because bots are being moved between the modes.
    beside: bool = False
    #: A rollout or rollback that is under way, with the command that shows or confirms it; empty if there is none.
    rollout: str = ""


def overview(deployment: Deployment, selection: Selection | None = None, sample: Sample | None = None) -> Overview:
    """The state of the deployment. Works without the services and servers; without the database it has no bots.

    `selection`: limits the processes and bots. `sample`: a recent one saves time. Raises `UsageError` for an unknown
    name or selector.
    """
    sample = sample or Sample()
    condition = deployment.condition()
    processes = deployment.processes() if condition is Condition.RUNNING else {}
    shown = deployment.shown(processes) if processes else []
    with ThreadPoolExecutor(4) as pool:
        read = pool.submit(backlog.read, deployment.settings) if condition is Condition.RUNNING else None
        looked = pool.submit(machine.look, deployment.settings)
        inspected = pool.submit(inspection.inspect, deployment, shown, processes, STATUS_TIMEOUT_SECONDS)
        pids = [process.pid for each in shown if (process := processes.get(each.name)) and process.pid]
        used = pool.submit(sample.usage, pids)
        drifts = drift.find(deployment, shown, processes)
        backlogs = read.result() if read is not None else Backlogs()
        health = inspected.result()
        rows = _Rows(deployment, processes, health, used.result(), backlogs)
        found = _whole(deployment, condition, rows.of(shown), backlogs, looked.result(), drifts)
    if selection is None or selection.is_empty:
        return found
    with left_out_explained(deployment.settings):
        return _selected(found, selection, deployment.known(processes), health)


def _selected(
    found: Overview, selection: Selection, instances: Sequence[Instance], health: Mapping[str, probes.Health]
) -> Overview:
    def states(chosen: Sequence[Instance]) -> dict[str, str]:
        return {
            each.name: health[each.name].status.value if each.name in health else probes.Status.STOPPED.value
            for each in chosen
        }

    chosen = {each.name for each in selections.select(selection, instances, states)}
    return replace(
        found,
        processes=[each for each in found.processes if each.name in chosen],
        bots=[each for each in found.bots if _concerns(selection, each)],
        drift=[each for each in found.drift if chosen.intersection(each.instances)],
    )


def _concerns(selection: Selection, trouble: BotTrouble) -> bool:
    if selection.bots:
        return f"{trouble.company}-{trouble.phone}" in selection.bots
    return trouble.company in selection.companies if selection.companies else True


class _Rows:
    """Makes the rows of instances from what was found out about all of them."""

    def __init__(
        self,
        deployment: Deployment,
        processes: Mapping[str, Process],
        health: Mapping[str, probes.Health],
        used: Mapping[int, Usage],
        backlogs: Backlogs,
    ) -> None:
        settings = deployment.settings
        self._settings = settings
        self._processes, self._health, self._used, self._backlogs = processes, health, used, backlogs
        self._guard = guard_file.guard_status(processes, settings)
        self._exits = exits.read_exits(settings.log_dir / exits.SUPERVISORD_LOG)
        self._stops = stop_records.read(settings.run_dir)
        self._own = {each.name for each in deployment.instances}
        self._releases = drift.releases(settings, processes)

    def of(self, instances: Sequence[Instance]) -> list[ProcessRow]:
        """The rows of these instances."""
        return [self._row(each) for each in instances]

    def _row(self, instance: Instance) -> ProcessRow:
        name, process = instance.name, self._processes.get(instance.name)
        pid = process.pid if process else 0
        uses, ended = self._used.get(pid), self._ends(name)
        waits = self._waiting(instance)
        return ProcessRow(
            name=name,
            program=instance.program.name,
            status=self._health[name].status.value,
            pid=pid or None,
            uptime_seconds=uses.uptime if uses else None,
            cpu_percent=round(uses.cpu, 1) if uses else None,
            memory_bytes=uses.memory if uses else None,
            restarts=ended.count,
            reason=_reason(self._health[name], ended, self._guard, name),
            kind=instance.program.kind.value,
            wanted="stopped" if name in self._stops or name not in self._own else "running",
            state=process.state.lower() if process else "absent",
            recent_restarts=ended.recent,
            memory_limit_bytes=memory_limit(instance.program, self._settings),
            waiting=waits.waiting if waits else None,
            oldest_seconds=waits.oldest_seconds if waits else None,
            session=self._backlogs.sessions.get(bot_of(instance)) if instance.program.dynamic else None,
            linked_number=self._backlogs.linked_numbers.get(bot_of(instance)) if instance.program.dynamic else None,
            release=str(found) if (found := self._releases.get(name)) else None,
        )

    def _ends(self, name: str) -> exits.Exits:
        ended = self._exits.get(name, exits.Exits(0, ""))
        if not self._guard.off_duty and name != guard_file.GUARD and name not in self._guard.ends:
            return exits.Exits(0, "", recent=ended.recent)  # it was stopped or restarted on purpose since
        return ended

    def _waiting(self, instance: Instance) -> Backlog | None:
        """The backlog of an instance. The workers of a channel share its messages."""
        if not self._backlogs.counted and instance.program.name not in ("meta", "events"):
            return None
        match instance.program.name:
            case "wwebjs-session":
                return self._backlogs.bots.get(bot_of(instance), Backlog())
            case "meta-worker":
                return self._backlogs.channels.get("meta", Backlog())
            case "legacy":
                return sum(self._backlogs.channels.values(), Backlog())
            case "meta":
                return self._backlogs.inbox
            case "events":
                return self._backlogs.deliveries
            case _:
                return None


def waits_ever(program: str) -> bool:
    """Whether anything ever waits for instances of a program."""
    return program in ("wwebjs-session", "meta-worker", "legacy", "meta", "events")


def _reason(health: probes.Health, ended: exits.Exits, guard: guard_file.GuardStatus, name: str) -> str:
    last = ""
    if ended.count:
        how = guard.ends.get(name, "")
        last = f"last end at {ended.at}: {ended.last if how in ('', KILLED) else how}"
    return "; ".join(each for each in (health.reason, guard.hangs.get(name, ""), last) if each)


def _whole(
    deployment: Deployment,
    condition: Condition,
    rows: list[ProcessRow],
    backlogs: Backlogs,
    looked: Machine,
    drifts: list[Drift],
) -> Overview:
    state, settings = deployment.last_start, deployment.settings
    since = state.since or None if state else None
    gone = "new" if state is None else "died" if since else "stopped"
    releases = [each.release for each in rows if each.release]
    return Overview(
        home=str(settings.home),
        mode=state.mode.value if state else None,
        sandbox=bool(state and state.sandbox),
        since=_running_since(deployment, condition, since),
        supervisor_pid=deployment.supervisor_pid(),
        condition=gone if condition is Condition.GONE else condition.value,
        start_command=deployment.start_command,
        processes=rows,
        bots=backlogs.troubles,
        disks=[] if gone == "new" else [each.trouble for each in looked.disks if each.trouble is not None],
        release=max(set(releases), key=releases.count) if releases else str(release.installed()),
        machine=looked,
        guard_seen_seconds=guard_file.heartbeat_age(settings.run_dir),
        alerts_seen_seconds=_heartbeat_age(deployment, ALERTS),
        has_alerts=any(each.name == ALERTS for each in PROGRAMS),
        drift=drifts,
        database_unavailable=backlogs.unavailable,
        retention_late=_late(backlogs.retention),
        failed_start=deployment.failed_start if condition is Condition.GONE else None,
        beside=bool(state and state.beside),
        rollout=duty.describe(settings.run_dir),
    )


def _running_since(deployment: Deployment, condition: Condition, recorded: float | None) -> float | None:
    """The recorded start, or that of the present supervisord if it is later: it may have ended and come back."""
    pid = deployment.supervisor_pid()
    if recorded is None or condition is not Condition.RUNNING or pid is None:
        return recorded
    with contextlib.suppress(OSError):
        return max(recorded, time.time() - uptime(pid))
    return recorded


def _late(last: LastRun | None) -> str:
    if last is None or last.age_seconds < LATE_SECONDS:
        return ""
    return f"last deleted {duration(last.age_seconds)} ago: {last.summary}"


def _heartbeat_age(deployment: Deployment, instance: str) -> float | None:
    beat = heartbeats.current(deployment.settings, instance)
    return None if beat is None else beat.age_seconds
