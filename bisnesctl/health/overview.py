"""The content of `bisnesctl status`: the health and resource usage of each process, and bots that need an operator."""

from dataclasses import dataclass

from bisnesctl.bots import check_records
from bisnesctl.bots.check_records import BotTrouble
from bisnesctl.health import guard_file, inspection, probes, resource_usage
from bisnesctl.host import volumes
from bisnesctl.logs import exits
from bisnesctl.processes.deployment import Condition, Deployment

#: The guard's words for a process that was killed; supervisord's log knows the signal.
KILLED = "it was killed"
#: Seconds in which a process must answer, so that `status` is quick.
STATUS_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class ProcessRow:
    """One process."""

    name: str
    program: str
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


@dataclass(frozen=True)
class Overview:
    """The deployment as a whole."""

    home: str
    mode: str | None
    sandbox: bool
    #: Seconds since the epoch; None if it was stopped.
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


def overview(deployment: Deployment) -> Overview:
    """The state of the deployment. Works without the services and servers; without the database it has no bots."""
    condition = deployment.condition()
    processes = deployment.processes() if condition is Condition.RUNNING else {}
    shown = deployment.shown(processes) if processes else []
    health = inspection.inspect(deployment, shown, processes, STATUS_TIMEOUT_SECONDS)
    used = resource_usage.measure(found.pid for each in shown if (found := processes.get(each.name)) and found.pid)
    died = exits.read_exits(deployment.settings.log_dir / "supervisord.log")
    guard = guard_file.guard_status(processes, deployment.settings)
    rows = []
    for instance in shown:
        pid = found.pid if (found := processes.get(instance.name)) else 0
        uses = used.get(pid)
        ended = died.get(instance.name, exits.Exits(0, ""))
        if not guard.off_duty and instance.name != guard_file.GUARD and instance.name not in guard.ends:
            ended = exits.Exits(0, "")  # it was stopped or restarted on purpose since
        rows.append(
            ProcessRow(
                name=instance.name,
                program=instance.program.name,
                status=health[instance.name].status.value,
                pid=pid or None,
                uptime_seconds=uses.uptime if uses else None,
                cpu_percent=round(uses.cpu, 1) if uses else None,
                memory_bytes=uses.memory if uses else None,
                restarts=ended.count,
                reason=_reason(health[instance.name], ended, guard, instance.name),
            )
        )
    return _whole(deployment, condition, rows)


def _reason(health: probes.Health, ended: exits.Exits, guard: guard_file.GuardStatus, name: str) -> str:
    last = ""
    if ended.count:
        how = guard.ends.get(name, "")
        last = f"last end at {ended.at}: {ended.last if how in ('', KILLED) else how}"
    return "; ".join(each for each in (health.reason, guard.hangs.get(name, ""), last) if each)


def _whole(deployment: Deployment, condition: Condition, rows: list[ProcessRow]) -> Overview:
    state = deployment.last_start
    since = state.since or None if state else None
    gone = "new" if state is None else "died" if since else "stopped"
    return Overview(
        home=str(deployment.settings.home),
        mode=state.mode.value if state else None,
        sandbox=bool(state and state.sandbox),
        since=since,
        supervisor_pid=deployment.supervisor_pid(),
        condition=gone if condition is Condition.GONE else condition.value,
        start_command=deployment.start_command,
        processes=rows,
        disks=[] if gone == "new" else volumes.troubled(deployment.settings),
        bots=check_records.troubled(deployment.settings) if condition is Condition.RUNNING else [],
    )
