"""Stops instances, or everything with supervisord. Each step is harmless if it was done before."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby

from bisnesctl.errors import BisnesError, CannotWrite
from bisnesctl.host import process_stat
from bisnesctl.processes import command_records, stop_records, supervisor
from bisnesctl.processes.deployment import Condition, Deployment, record_stop
from bisnesctl.processes.topology import Instance, names_of

#: Seconds beyond a program's kill timeout that its end may take.
STOP_MARGIN_SECONDS = 5.0
#: Seconds after which a stop that lasts is reported.
STOP_NOTICE_SECONDS = 3.0
#: Seconds that supervisord may take to end once its processes have.
SHUTDOWN_TIMEOUT_SECONDS = 60.0
#: Seconds after SIGTERM, and again after SIGKILL, in which a supervisord that does not answer should end.
_KILL_TIMEOUT_SECONDS = 5.0

Report = Callable[[str], None]


def stop_all(deployment: Deployment, report: Report, on_purpose: bool = True) -> bool:
    """Stops everything in reverse order, then supervisord. Returns whether supervisord ran.

    `on_purpose`: an operator wants it, which is recorded; False: a failed start is undone.
    """
    condition = deployment.condition()
    if condition is not Condition.RUNNING:
        return end_supervisor(deployment, condition, report, on_purpose)
    pid, running = deployment.supervisor.pid(), deployment.unsettled()
    if on_purpose:
        command_records.write(deployment.settings.run_dir, "stop", running)
    stop_in_order(deployment, running, report)
    deployment.supervisor.shutdown()
    _wait_for_end(deployment, pid)
    if on_purpose:
        _record_stop(deployment, report)
    return True


def stop_named(deployment: Deployment, instances: Sequence[Instance], report: Report) -> list[Instance]:
    """Stops these instances and records that an operator did so. Returns those that ran."""
    try:
        stop_records.add(deployment.settings.run_dir, [each.name for each in instances])
    except CannotWrite as error:
        report(_unrecorded(error))
    command_records.write(deployment.settings.run_dir, "stop", instances)
    names = {each.name for each in instances}
    running = [each for each in deployment.unsettled() if each.name in names]
    stop_in_order(deployment, running, report, announced=False)
    for group in {each.group for each in running if each.program.shared_socket}:
        deployment.supervisor.release(group)  # a restart that was killed may have held it
    return running


def end_supervisor(deployment: Deployment, condition: Condition, report: Report, on_purpose: bool = True) -> bool:
    """Waits for a supervisord that is shutting down, or ends one that does not answer. Returns whether it ran.

    Its processes end with it.
    """
    pid = deployment.supervisor_pid()
    if pid is None:
        return False
    if condition is Condition.STOPPING:
        report(f"supervisord (pid {pid}) is shutting down: waiting for it")
        _wait_for_end(deployment, pid)
    else:
        report(f"supervisord (pid {pid}) does not answer: ending it")
        _kill(pid)
    if on_purpose:
        _record_stop(deployment, report)
    return True


def _record_stop(deployment: Deployment, report: Report) -> None:
    """A full disk must not make a stop fail."""
    try:
        record_stop(deployment.settings.run_dir)
    except CannotWrite as error:
        report(_unrecorded(error))


def _unrecorded(error: CannotWrite) -> str:
    return f"[yellow]`bisnesctl status` will not show that it was stopped on purpose[/]: {error}"


def _wait_for_end(deployment: Deployment, pid: int) -> None:
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT_SECONDS
    while process_stat.is_alive(pid):
        deployment.supervisor.state()  # a call wakes supervisord, which otherwise takes a second for each group
        if time.monotonic() > deadline:
            raise BisnesError(f"supervisord (pid {pid}) does not end; its processes have stopped: `kill -9 {pid}`")
        process_stat.wait_for_an_end([pid], 0.01)


def _kill(pid: int) -> None:
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
        deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
        while process_stat.is_alive(pid) and time.monotonic() < deadline:
            process_stat.wait_for_an_end([pid], 0.05)


def stop_in_order(
    deployment: Deployment, instances: Sequence[Instance], report: Report, announced: bool = True
) -> None:
    """Stops instances in the reverse order of their start, those of the same priority together.

    So the session manager ends before its sessions and cannot start them again. `announced`: each step is reported.
    """
    order = sorted(instances, key=lambda each: -each.program.priority)
    for _, members in groupby(order, key=lambda each: each.program.priority):
        tier = list(members)
        if announced:
            report(f"stopping {names_of(tier)}")
        stop_together(deployment, tier, report)


def stop_together(deployment: Deployment, instances: Sequence[Instance], report: Report) -> None:
    """Stops instances at the same time and waits for their end. Raises `BisnesError` if one does not end."""
    began = time.monotonic()
    for instance in instances:
        deployment.supervisor.stop(instance.full_name)
    wait_stopped(deployment, instances, report, began)


def wait_stopped(deployment: Deployment, instances: Sequence[Instance], report: Report, began: float) -> None:
    """Waits until none of these runs, as long as their programs may take. Raises `BisnesError` after that.

    Reports those that take long, and those that had to be killed. `began`: when they were asked to stop, in monotonic
    seconds.
    """
    limits = {each.name: each.program.kill_timeout for each in instances}
    longest = max(limits.values(), default=0)
    left, mentioned = set(limits), False
    for active in supervisor.watch_stop(deployment.supervisor, set(limits), longest + STOP_MARGIN_SECONDS):
        waited = time.monotonic() - began
        for name in sorted(left - active):
            if waited >= limits[name]:
                report(f"[yellow]{name} did not end within {limits[name]} s and was killed[/]")
        left &= active
        if left and waited >= STOP_NOTICE_SECONDS and not mentioned:
            mentioned = True
            report(f"waiting for {', '.join(sorted(left))}; what has not ended after {longest} s is killed")
