"""The observation of a rollout's surroundings: owners, running sides, and the verdict."""

import time
from collections.abc import Callable, Sequence

from bisnesctl.bots import ownership
from bisnesctl.bots.ownership import Side
from bisnesctl.database.postgres import Connection
from bisnesctl.health.inspection import inspect
from bisnesctl.health.probes import Status
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import Instance, Mode, expand
from bisnesctl.rollout import state
from bisnesctl.rollout.decision import Observation
from bisnesctl.rollout.state import Phase, Rollout

#: Seconds between two verdicts.
JUDGE_INTERVAL_SECONDS = 5.0
#: States in which a program serves nobody, and the guard does not start it again by itself.
_OUT = (Status.STOPPED, Status.DOWN, Status.BLOCKED, Status.FAILED)

#: Judges the current step: pass, fail or hold, with the reasons.
Judge = Callable[[Connection, Rollout], tuple[str, Sequence[str]]]


def programs_of(deployment: Deployment, side: Side) -> list[Instance]:
    """The instances that run for one side alone."""
    mode = Mode(side)
    return [each for each in expand(deployment.settings) if each.program.modes == {mode}]


def running_sides(deployment: Deployment) -> frozenset[Side]:
    """The sides whose programs run here, or are started again by the guard."""
    processes = deployment.processes()
    running = set()
    for side in Side:
        instances = programs_of(deployment, side)
        health = inspect(deployment, instances, processes)
        if instances and not any(health[each.name].status in _OUT for each in instances):
            running.add(side)
    return frozenset(running)


class Observer:
    """Observes one rollout after the other; remembers the time of the last verdict."""

    def __init__(self, deployment: Deployment, judge: Judge) -> None:
        self._deployment, self._judge = deployment, judge
        self._judged = 0.0  # by time.monotonic()

    def observe(self, connection: Connection, rollout: Rollout) -> Observation:
        """The facts now."""
        ruling, reasons = self._verdict(connection, rollout)
        return Observation(
            {each.bot_id: each.owner for each in ownership.find(connection, rollout.bots)},
            running_sides(self._deployment), ruling, reasons,
        )  # fmt: skip

    def _verdict(self, connection: Connection, rollout: Rollout) -> tuple[str | None, tuple[str, ...]]:
        if rollout.phase is not Phase.FORWARD or rollout.step_at is None:
            return None, ()
        if rollout.ruling is not None and time.monotonic() < self._judged + JUDGE_INTERVAL_SECONDS:
            return rollout.ruling, rollout.reasons
        ruling, reasons = self._judge(connection, rollout)
        self._judged = time.monotonic()
        state.change(connection, rollout, ruling=ruling, reasons=tuple(reasons), judged_at="now")
        return ruling, tuple(reasons)
