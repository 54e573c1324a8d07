"""The way back to the legacy process at once: as a rollout that ends with every bot there, in one step.

It needs neither Redis nor PostgreSQL nor a working API. Each step is harmless if it was done before, and a rollback
that was killed is continued by the program `alerts`.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass, replace

from bisnesctl.bots import ownership
from bisnesctl.bots.ownership import Ownership, Side
from bisnesctl.database import postgres
from bisnesctl.database.postgres import Connection
from bisnesctl.errors import BisnesError, Conflict, StartFailed
from bisnesctl.host import process_stat
from bisnesctl.lifecycle import handover
from bisnesctl.lifecycle.start import Action, Start
from bisnesctl.lifecycle.stop import Report
from bisnesctl.processes import known_good
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import Mode
from bisnesctl.rollout import duty, state
from bisnesctl.rollout.driver import driver_pid
from bisnesctl.rollout.duty import RollbackRecord
from bisnesctl.rollout.state import Phase

#: Seconds to connect to PostgreSQL, and for each statement, before the legacy process is started.
LOOK_TIMEOUT_SECONDS = 3
#: Seconds for which the delivery of what waits is watched afterwards.
WATCH_SECONDS = 5.0


@dataclass(frozen=True)
class Situation:
    """The bots and queues that a rollback would find."""

    #: None: PostgreSQL is unavailable.
    bots: list[Ownership] | None
    #: Why PostgreSQL is unavailable.
    reason: str = ""

    @property
    def to_move(self) -> int:
        """Bots that the legacy process does not serve."""
        return sum(each.owner is not Side.LEGACY for each in self.bots or ())

    @property
    def waiting(self) -> int:
        """Messages that are not sent yet."""
        return sum(each.waiting for each in self.bots or ())


def look(deployment: Deployment) -> Situation:
    """The situation now."""
    try:
        with _connected(deployment) as connection:
            return Situation(ownership.find(connection))
    except BisnesError as error:
        return Situation(None, str(error))


def _connected(deployment: Deployment) -> contextlib.AbstractContextManager[Connection]:
    """A connection that does not hold up a rollback if PostgreSQL hangs."""
    return postgres.connected(deployment.settings.database_dsn, timeout=LOOK_TIMEOUT_SECONDS)


def check_queue(deployment: Deployment, to: Side) -> None:
    """Raises `Conflict` if bots would move to the former server, which does not deliver what waits in our queue."""
    if to is not Side.LEGACY or not deployment.settings.legacy_command:
        return
    waiting = look(deployment).waiting
    if waiting:
        raise Conflict(
            f"{waiting} messages wait, and the former server (LEGACY_COMMAND) does not deliver them: "
            "`bisnesctl queue drain` waits until they are sent; with --force they wait until their bots come back"
        )


def way_back(deployment: Deployment) -> str:
    """The command that returns to the isolated processes."""
    return f"bisnesctl start --multiprocess{' --sandbox' if deployment.settings.sandbox else ''}"


def run(
    deployment: Deployment, report: Report, by: str, force: bool = False, confirm_seconds: float | None = None
) -> RollbackRecord:
    """Rolls back. Raises `StartFailed` or another `BisnesError` if the legacy process does not start: then everything
    is as before.

    `force`: what is in hand is not waited for. `confirm_seconds`: it is undone unless it is confirmed in time.
    """
    run_dir = deployment.settings.run_dir
    with duty.Work(run_dir, duty.ROLLBACK) as work:
        if not work.take():
            raise Conflict("another rollback is under way: `bisnesctl status` shows how far it is")
        if not force:
            check_queue(deployment, Side.LEGACY)
        before = duty.read_rollback(run_dir)
        if confirm_seconds is None and before is not None:
            confirm_seconds = before.confirm_seconds  # it continues one that was interrupted
        record = RollbackRecord(time.time(), by, way_back(deployment), confirm_seconds=confirm_seconds)
        duty.write_rollback(run_dir, record)
        _end_rollout(deployment, report)
        try:
            without_database = _start(deployment, report, 0.0 if force else handover.PATIENCE_SECONDS)
        except BisnesError:
            duty.end_rollback(run_dir)
            raise
        return _done(deployment, record, without_database)


def _start(deployment: Deployment, report: Report, patience: float) -> bool:
    """Starts the legacy process, from the copy of the code that ran last if the code on the disk is broken.

    Returns whether PostgreSQL is unavailable.
    """
    start = Start(deployment, Mode.LEGACY, report, action=Action.ROLLBACK, patience=patience)
    try:
        start.run()
    except StartFailed as error:
        settings = deployment.settings
        copy = known_good.find(settings.home)
        if copy is None:
            raise
        first = str(error).partition(chr(10))[0]
        report(f"[yellow]the code on the disk does not start[/] ({first}): starting the copy that ran last")
        known_good.use(settings.run_dir, copy)
        start = Start(deployment, Mode.LEGACY, report, action=Action.ROLLBACK, patience=patience)
        start.run()
    return bool(start.without_database)


def _done(deployment: Deployment, record: RollbackRecord, hands_over: bool) -> RollbackRecord:
    undone_at = None if record.confirm_seconds is None else time.time() + record.confirm_seconds
    record = replace(record, done=True, hands_over=hands_over, undone_at=undone_at)
    if hands_over or undone_at is not None:
        duty.write_rollback(deployment.settings.run_dir, record)
    else:
        duty.end_rollback(deployment.settings.run_dir)
    return record


def _end_rollout(deployment: Deployment, report: Report) -> None:
    """A rollout that is under way ends here; its driver is ended, so that it locks nothing."""
    try:
        with _connected(deployment) as connection:
            rollout = state.active(connection)
            if rollout is None:
                return
            if (pid := driver_pid(rollout)) not in (None, os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                process_stat.wait_for_an_end([pid], 2.0)
            rollout = state.active(connection) or rollout
            phase = Phase.DONE if rollout.to_side is Side.LEGACY else Phase.UNDONE
            state.change(connection, rollout, phase=phase, paused=False, ended_at="now", reason="a rollback ended it")
            report(f"rollout {rollout.id} ends with this rollback")
    except BisnesError as error:
        report(f"[yellow]rollouts are not looked at[/]: {str(error).partition(chr(10))[0]}")
    duty.end_moving(deployment.settings.run_dir)


def hand_over_late(deployment: Deployment) -> bool:
    """Hands all bots over once PostgreSQL answers again; returns whether it did."""
    with postgres.command_connection(deployment.settings):
        pass
    handover.take_all(deployment.settings, Side.LEGACY, Action.ROLLBACK.value, introduce=True)
    record = duty.read_rollback(deployment.settings.run_dir)
    if record is not None and record.undone_at is None:
        duty.end_rollback(deployment.settings.run_dir)
    elif record is not None:
        duty.write_rollback(deployment.settings.run_dir, replace(record, hands_over=False))
    return True


def confirm(deployment: Deployment) -> RollbackRecord | None:
    """Confirms a rollback, which then stays; returns it, None if none waits to be confirmed."""
    record = duty.read_rollback(deployment.settings.run_dir)
    if record is None or record.confirm_seconds is None:
        return None
    kept = replace(record, confirm_seconds=None, undone_at=None)
    if kept.hands_over or not kept.done:
        duty.write_rollback(deployment.settings.run_dir, kept)
    else:
        duty.end_rollback(deployment.settings.run_dir)
    return record


def watch_queue(deployment: Deployment, before: int) -> str:
    """The messages that waited and what became of them so far, as a sentence."""
    deadline, left = time.monotonic() + WATCH_SECONDS, before
    while True:
        found = look(deployment)
        if found.bots is None:
            return f"messages wait until PostgreSQL answers: {found.reason}"
        left = found.waiting
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    if not before and not left:
        return "no message waits"
    if not left:
        return f"{before} messages waited, and all have been delivered or decided"
    return f"{before} messages waited when it began, {left} wait now: `bisnesctl queue stats` counts them"
