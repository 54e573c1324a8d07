"""Drives a rollout: observes, decides, acts, one process at a time.

The next driver continues an interrupted rollout: the state is in the database, and each action is harmless if it was
done before.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psycopg2

from bisnesctl.bots import ownership
from bisnesctl.bots.ownership import Side
from bisnesctl.database import postgres
from bisnesctl.database.postgres import Connection
from bisnesctl.errors import BisnesError, Conflict, DatabaseUnavailable
from bisnesctl.host import process_stat
from bisnesctl.lifecycle import handover
from bisnesctl.lifecycle.start import Action as StartAction
from bisnesctl.lifecycle.start import Start
from bisnesctl.lifecycle.stop import Report
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import Mode
from bisnesctl.rollout import duty, state
from bisnesctl.rollout.decision import Action, Finish, GoBack, HandOver, StartSide, Wait, changes_of, decide
from bisnesctl.rollout.observation import Judge, Observer
from bisnesctl.rollout.state import LEASE_SECONDS, Phase, Rollout

#: Seconds between two looks at a rollout that waits, or that another process drives.
POLL_SECONDS = 1.0
#: Seconds until an action that failed is tried again.
RETRY_SECONDS = 3.0

#: Whether a driver is to end although the rollout has not.
Until = Callable[[Rollout, Action], bool]


def never(_rollout: Rollout, _action: Action) -> bool:
    """The driver stays until the rollout has ended."""
    return False


class Driver:
    """Drives the rollout that is under way."""

    def __init__(
        self, deployment: Deployment, judge: Judge, report: Report, report_start: Report = lambda _: None
    ) -> None:
        """`report`: gets sentences without markup; `report_start`: the progress of programs that start, with markup."""
        self._deployment, self._report, self._report_start = deployment, report, report_start
        self._observer = Observer(deployment, judge)
        self._name = f"{socket.gethostname()}/{os.getpid()}/{process_stat.read(os.getpid()).started_at:.2f}"
        self._said = ""

    def run(self, until: Until = never) -> Rollout | None:
        """Drives until the rollout has ended or `until` says so; returns it as it is then, None if there is none.

        If another process drives it, this one only reports. Without PostgreSQL it waits. An operator's stop ends it.
        """
        number: int | None = None
        with duty.Work(self._deployment.settings.run_dir, duty.MOVING) as work:
            while True:
                if self._deployment.was_stopped:
                    self._say("everything was stopped: the rollout continues after `bisnesctl start`")
                    return None
                try:
                    with postgres.command_connection(self._deployment.settings) as connection:
                        rollout = state.active(connection)
                        if rollout is None:
                            duty.end_moving(self._deployment.settings.run_dir)
                            return None if number is None else state.find(connection, number)
                        number = rollout.id
                        action = self._drive_once(connection, rollout, work.take())
                        if until(rollout, action):
                            state.release(connection, rollout, self._name)
                            return state.find(connection, number)
                except DatabaseUnavailable as error:
                    self._say(f"it continues once PostgreSQL answers: {error}")
                    time.sleep(RETRY_SECONDS)
                    continue
                if isinstance(action, Wait):
                    time.sleep(POLL_SECONDS)

    def _drive_once(self, connection: Connection, rollout: Rollout, own: bool) -> Action:
        if not own or not state.lease(connection, rollout, self._name, _ended(rollout)):
            return Wait("another process drives it")
        duty.begin_moving(self._deployment.settings.run_dir, rollout.id)
        action = decide(rollout, self._observer.observe(connection, rollout))
        try:
            with self._lease_renewed(rollout):
                self._act(connection, rollout, action)
        except DatabaseUnavailable:
            raise
        except BisnesError as error:
            self._note_failure(connection, rollout, action, error)
        return action

    def _act(self, connection: Connection, rollout: Rollout, action: Action) -> None:
        settings = self._deployment.settings
        match action:
            case StartSide(side):
                self._say(f"starting {side} beside {side.other}")
                self._start(self._deployment.mode, beside=True)
            case HandOver(bots, to):
                done = handover.hand_over(settings, connection, bots, to, f"rollout {rollout.id} of {rollout.by}")
                if done.moved:
                    self._say(done.sentence(to))
            case GoBack(reason):
                self._say(f"it goes back: {reason}")
            case Finish(_, side, reason):
                self._finish(connection, rollout, side)
                self._say(f"{side} serves all bots of the rollout: {reason}")
            case Wait(reason, command):
                self._say(f"{reason}{f': `{command}`' if command else ''}")
        if changes := changes_of(rollout, action):
            state.change(connection, rollout, **changes)

    def _start(self, mode: Mode, beside: bool) -> None:
        Start(self._deployment, mode, self._report_start, action=StartAction.ROLLOUT, beside=beside).run()

    def _finish(self, connection: Connection, rollout: Rollout, side: Side) -> None:
        """The side gets new bots too; the other side's programs stop if no bot is left to them."""
        channels = [rollout.channel] if rollout.channel else list(ownership.CHANNELS)
        ownership.set_new_bots(connection, channels, side)
        left = [each for each in ownership.find(connection) if each.owner is side.other]
        late = [each.bot_id for each in left if rollout.channel in (None, each.channel)]
        handover.hand_over(self._deployment.settings, connection, late, side, f"rollout {rollout.id} of {rollout.by}")
        if len(late) == len(left):
            self._start(Mode(side), beside=False)

    def _note_failure(self, connection: Connection, rollout: Rollout, action: Action, error: BisnesError) -> None:
        """Counts a start that failed; one that another command prevented for a moment is only tried again."""
        reason = str(error).partition("\n")[0]
        self._say(f"that failed, and is tried again: {reason}")
        if isinstance(action, StartSide) and type(error) is not Conflict:
            kept = rollout.reason if rollout.phase is Phase.BACK else reason
            state.change(connection, rollout, failures=rollout.failures + 1, reason=kept)
        time.sleep(RETRY_SECONDS)

    @contextlib.contextmanager
    def _lease_renewed(self, rollout: Rollout) -> Iterator[None]:
        """Within it, the lease does not end however long an action takes."""
        over = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(rollout, over), name="lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            over.set()

    def _renew(self, rollout: Rollout, over: threading.Event) -> None:
        while not over.wait(LEASE_SECONDS / 3):
            with (
                contextlib.suppress(BisnesError, psycopg2.Error),
                postgres.command_connection(self._deployment.settings) as connection,
            ):
                state.lease(connection, rollout, self._name, ())

    def _say(self, text: str) -> None:
        if text != self._said:
            self._report(text)
        self._said = text


def driver_pid(rollout: Rollout) -> int | None:
    """The process of this machine that drives a rollout; None if there is none."""
    host, _, rest = (rollout.driver or "").partition("/")
    pid, _, started = rest.partition("/")
    if host != socket.gethostname() or not pid.isdecimal():
        return None
    try:
        found = process_stat.read(int(pid))
    except OSError:
        return None
    return int(pid) if found.state != "Z" and f"{found.started_at:.2f}" == started else None


def _ended(rollout: Rollout) -> list[str]:
    """The driver of the rollout, if it was a process of this machine that has ended."""
    is_here = (rollout.driver or "").startswith(f"{socket.gethostname()}/")
    return [rollout.driver or ""] if is_here and driver_pid(rollout) is None else []


def abort(connection: Connection, rollout: Rollout, reason: str) -> bool:
    """Has a rollout go back, also one that was done already; returns whether it does."""
    if rollout.phase is Phase.DONE:
        return state.change(connection, rollout, phase=Phase.BACK, ended_at=None, reason=reason, failures=0)
    if rollout.phase is Phase.FORWARD:
        return state.change(connection, rollout, **changes_of(rollout, GoBack(reason)))
    return False
