"""The page of supervisord in `bisnesctl describe`: it runs all processes, and is none of them."""

import contextlib
import time
from dataclasses import dataclass

from bisnesctl import moments
from bisnesctl.database.event_log import EventFilter, LoggedEvent
from bisnesctl.health import event_history
from bisnesctl.host.process_times import uptime
from bisnesctl.naming import SUPERVISORD
from bisnesctl.processes.deployment import Condition, Deployment

_CONDITIONS = {
    Condition.RUNNING: "running",
    Condition.STOPPING: "shutting down",
    Condition.SILENT: "it runs but does not answer",
    Condition.GONE: "it does not run",
}
#: Events on the page, at most.
_MAX_EVENTS = 10


@dataclass(frozen=True)
class SupervisorPage:
    """Everything that is known about supervisord."""

    name: str
    about: str
    #: running or stopped.
    wanted: str
    actual: str
    #: Why wanted and actual differ; empty if they do not.
    why: str
    next: str
    #: Commands to type.
    commands: list[str]
    pid: int | None
    started_at: str | None
    log: str
    config: str
    #: Its last events, newest first.
    events: list[LoggedEvent]
    #: Parts that could not be read, and why.
    unseen: list[str]


def describe(deployment: Deployment) -> SupervisorPage:
    """The page of this deployment's supervisord."""
    condition, pid = deployment.condition(), deployment.supervisor_pid()
    last = deployment.last_start
    wanted = last is not None and bool(last.since)
    why = "" if (condition is Condition.RUNNING) == wanted else _why(condition, wanted)
    read = event_history.read(deployment, EventFilter(programs=(SUPERVISORD,), limit=_MAX_EVENTS))
    settings = deployment.settings
    return SupervisorPage(
        name=SUPERVISORD,
        about="runs all processes and keeps their logs; if it ends, they end with it",
        wanted="running" if wanted else "stopped",
        actual=_CONDITIONS[condition],
        why=why,
        next="" if not why or condition is not Condition.GONE else "nothing, unless systemd or cron starts it",
        commands=_commands(deployment, condition, wanted),
        pid=pid,
        started_at=_started_at(pid),
        log=str(settings.log_dir / "supervisord.log"),
        config=str(deployment.config),
        events=read.events,
        unseen=[f"events before the guard's files: {read.unavailable}"] if read.unavailable else [],
    )


def _why(condition: Condition, wanted: bool) -> str:
    if condition is Condition.RUNNING:
        return "a stop, or a start, is under way"
    return "it ended without a stop" if wanted and condition is Condition.GONE else ""


def _commands(deployment: Deployment, condition: Condition, wanted: bool) -> list[str]:
    if condition is Condition.SILENT:
        return ["bisnesctl logs supervisord", "bisnesctl stop"]
    if condition is Condition.GONE:
        return [deployment.start_command, *(["bisnesctl logs supervisord"] if wanted else [])]
    return ["bisnesctl why supervisord", "bisnesctl logs supervisord"]


def _started_at(pid: int | None) -> str | None:
    with contextlib.suppress(OSError):
        return None if pid is None else moments.shown(time.time() - uptime(pid))
    return None
