"""A rollout as `rollout status` shows it: what is wanted, what is, why they differ, what comes next, what to type."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bisnesctl.bots import ownership
from bisnesctl.bots.ownership import Ownership, Side
from bisnesctl.database import postgres
from bisnesctl.database.postgres import Connection
from bisnesctl.errors import BisnesError
from bisnesctl.formatting import duration, listed
from bisnesctl.processes.deployment import Deployment
from bisnesctl.rollout import judge, state
from bisnesctl.rollout.decision import Finish, HandOver, Observation, StartSide, Wait, Watch, decide
from bisnesctl.rollout.driver import driver_pid
from bisnesctl.rollout.figures import SideFigures
from bisnesctl.rollout.observation import running_sides
from bisnesctl.rollout.state import Phase, Rollout


@dataclass(frozen=True)
class SideView:
    """One side."""

    side: Side
    running: bool
    bots: int
    #: Of the bots that the rollout moves.
    moving_bots: int
    waiting: int
    in_hand: int


@dataclass(frozen=True)
class Overview:
    """The rollout that is under way, or the last one, and its surroundings."""

    rollout: Rollout | None
    sides: list[SideView]
    wanted: str
    actual: str
    #: Why they differ; empty if they do not.
    difference: str
    next: str
    command: str
    #: The bots that are being handed over now.
    draining: list[str] = field(default_factory=list)
    #: The process that drives it; None: none does.
    driver: str | None = None
    #: The figures of both sides since the step began, by side; empty if no step is watched.
    figures: dict[str, SideFigures] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The value of `rollout status --json`."""
        rollout = self.rollout
        return {
            "rollout": None if rollout is None else _rollout_json(rollout),
            "sides": {
                each.side.value: {
                    "running": each.running, "bots": each.bots, "movingBots": each.moving_bots,
                    "waiting": each.waiting, "inHand": each.in_hand,
                }
                for each in self.sides
            },
            "figures": {side: each.as_json() for side, each in self.figures.items()},
            "draining": self.draining,
            "driver": self.driver,
            "wanted": self.wanted, "actual": self.actual, "difference": self.difference, "next": self.next,
            "command": self.command,
        }  # fmt: skip


def _rollout_json(rollout: Rollout) -> dict[str, Any]:
    def moment(value: Any) -> str | None:
        return None if value is None else value.isoformat()

    return {
        "id": rollout.id, "channel": rollout.channel, "from": rollout.from_side, "to": rollout.to_side,
        "phase": rollout.phase, "paused": rollout.paused, "automatic": rollout.automatic,
        "bots": len(rollout.bots), "wantedBots": len(rollout.wanted), "step": rollout.step,
        "steps": [{"percent": each.percent, "seconds": each.seconds} for each in rollout.steps],
        "beganAt": moment(rollout.began_at), "stepAt": moment(rollout.step_at), "endedAt": moment(rollout.ended_at),
        "by": rollout.by, "reason": rollout.reason, "verdict": rollout.ruling, "reasons": list(rollout.reasons),
        "judgedAt": moment(rollout.judged_at), "failedStarts": rollout.failures,
    }  # fmt: skip


def overview(deployment: Deployment) -> Overview:
    """The rollout now. Raises `DatabaseUnavailable`."""
    with postgres.command_connection(deployment.settings) as connection:
        rollout = state.active(connection) or next(iter(state.latest(connection)), None)
        owners = ownership.find(connection)
        figures = _figures(deployment, connection, rollout)
    running: frozenset[Side] = frozenset()
    with contextlib.suppress(BisnesError):
        running = running_sides(deployment)
    sides = [_side(side, running, owners, rollout) for side in Side]
    if rollout is None:
        return _without(deployment, sides)
    moving = [each for each in owners if each.bot_id in rollout.bots]
    there = sum(each.owner is rollout.to_side for each in moving)
    wanted = _wanted(rollout)
    actual = f"{rollout.to_side} serves {there} of them, {rollout.from_side} {len(moving) - there}"
    upcoming, command = _next(rollout, moving, running)
    pid = driver_pid(rollout)
    is_elsewhere = rollout.driver is not None and rollout.driver_seconds > 0 and pid is None
    return Overview(
        rollout, sides, wanted, actual, _difference(rollout, moving), upcoming, command,
        [each.name for each in owners if each.draining],
        f"pid {pid}" if pid else rollout.driver if is_elsewhere else None, figures,
    )  # fmt: skip


def _figures(deployment: Deployment, connection: Connection, rollout: Rollout | None) -> dict[str, SideFigures]:
    if rollout is None or rollout.phase is not Phase.FORWARD:
        return {}
    return judge.sides(deployment, connection, rollout, judge.measure(deployment, connection, rollout))


def _side(side: Side, running: frozenset[Side], owners: Sequence[Ownership], rollout: Rollout | None) -> SideView:
    own = [each for each in owners if each.owner is side or (each.owner is None and side in running)]
    moving = sum(rollout is not None and each.bot_id in rollout.bots for each in own)
    waiting, in_hand = sum(each.waiting for each in own), sum(each.in_hand for each in own)
    return SideView(side, side in running, len(own), moving, waiting, in_hand)


def _without(deployment: Deployment, sides: list[SideView]) -> Overview:
    names = listed([each.side.value for each in sides if each.running]) or "neither side"
    return Overview(
        None, sides, "no rollout was begun", f"{names} runs", "", "nothing moves by itself",
        "bisnesctl rollout plan" if deployment.last_start else "bisnesctl start --legacy",
    )  # fmt: skip


def _wanted(rollout: Rollout) -> str:
    what = f"{len(rollout.bots)} bots{f' of {rollout.channel}' if rollout.channel else ''}"
    match rollout.phase:
        case Phase.FORWARD:
            return f"{rollout.to_side} serves {len(rollout.wanted)} of {what} ({rollout.current})"
        case Phase.DONE:
            return f"{rollout.to_side} serves all {what}"
        case _:
            return f"{rollout.from_side} serves all {what} again"


def _difference(rollout: Rollout, moving: Sequence[Ownership]) -> str:
    wanted = set(rollout.wanted) if rollout.phase is not Phase.DONE else set(rollout.bots)
    late = [each for each in moving if (each.owner is rollout.to_side) is not (each.bot_id in wanted)]
    if not late:
        return ""
    in_hand = sum(each.in_hand for each in late)
    hands = f", {in_hand} of their messages are in hand" if in_hand else ""
    if rollout.phase.is_end:
        return f"since it ended, {listed([each.name for each in late])} moved again"
    return f"{listed([each.name for each in late])} are still to be handed over{hands}"


def _next(rollout: Rollout, moving: Sequence[Ownership], running: frozenset[Side]) -> tuple[str, str]:
    """The next event that happens by itself, and the command that an operator may type."""
    if rollout.phase.is_end:
        text = f"it ended: {rollout.reason}" if rollout.reason else "it ended"
        return text, "bisnesctl rollout abort" if rollout.phase is Phase.DONE else "bisnesctl rollout plan"
    owners = {each.bot_id: each.owner for each in moving}
    action = decide(rollout, Observation(owners, running, rollout.ruling, rollout.reasons))
    usual = "" if rollout.phase is Phase.BACK else "bisnesctl rollout abort"
    match action:
        case StartSide(side):
            return f"{side} is started beside the other side", usual
        case HandOver(bots, to):
            return f"{len(bots)} bots are handed over to {to}", usual
        case Watch():
            seconds = rollout.current.seconds
            return "the bots of this step are watched" + (f" for {duration(seconds)}" if seconds else ""), usual
        case Finish(_, side, _):
            return f"it ends: {side} serves all of them", usual
        case Wait(reason, command):
            return reason, command or usual
        case _:
            return "the next step begins", usual
