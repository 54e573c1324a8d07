"""The next action of a rollout: a pure function of its state and of what was observed.

Every action may be interrupted, and is harmless if it was done before. After any interruption, the next decisions lead
to one of two ends: all bots on the new side, or all on the old one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bisnesctl.bots.ownership import Side
from bisnesctl.formatting import duration
from bisnesctl.rollout.state import Phase, Rollout

#: Failed starts of the new side in a row after which a rollout goes back.
MAX_FAILED_STARTS = 2
#: Bots that are handed over at the same time.
BATCH_BOTS = 25


@dataclass(frozen=True, slots=True)
class Observation:
    """The facts beside the rollout's own state."""

    #: The side that owns each bot; a bot that was removed is missing.
    owners: Mapping[int, Side | None]
    #: The sides whose programs run.
    running: frozenset[Side]
    #: The verdict on the current step: pass, fail, hold; None: there is none yet.
    ruling: str | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StartSide:
    """Start the programs of a side beside the others."""

    side: Side


@dataclass(frozen=True, slots=True)
class HandOver:
    """Hand bots over to a side."""

    bots: tuple[int, ...]
    to: Side


@dataclass(frozen=True, slots=True)
class Watch:
    """All bots of the step have moved: the time of the step begins."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Begin the next step."""


@dataclass(frozen=True, slots=True)
class GoBack:
    """Undo the rollout."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """End the rollout: everything is on one side. The programs of the other stop if no bot is left to them."""

    phase: Phase
    side: Side
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for now."""

    reason: str
    #: The command that an operator may type; empty: none is needed.
    command: str = ""


Action = StartSide | HandOver | Watch | Advance | GoBack | Finish | Wait


def decide(rollout: Rollout, seen: Observation) -> Action:
    """The next action of a rollout that is under way."""
    if rollout.phase is Phase.BACK:
        return _move(rollout, seen) or Finish(Phase.UNDONE, rollout.from_side, rollout.reason)
    if seen.ruling == "fail":
        return GoBack(next(iter(seen.reasons), "the moved bots do worse"))
    if rollout.failures >= MAX_FAILED_STARTS:
        return GoBack(f"{rollout.to_side} does not start{f': {rollout.reason}' if rollout.reason else ''}")
    return _move(rollout, seen) or _after_move(rollout, seen)


def _move(rollout: Rollout, seen: Observation) -> StartSide | HandOver | None:
    """The action that brings bots to the sides on which they should be; None if all are."""
    wanted = set(rollout.wanted)
    for side in (rollout.to_side, rollout.from_side):
        due = [bot for bot in rollout.bots if bot in seen.owners and (bot in wanted) is (side is rollout.to_side)]
        astray = tuple(bot for bot in due if seen.owners[bot] is not side)
        if astray and side not in seen.running:
            return StartSide(side)
        if astray:
            return HandOver(astray[:BATCH_BOTS], side)
    return None


def _after_move(rollout: Rollout, seen: Observation) -> Action:
    if rollout.to_side not in seen.running:
        return StartSide(rollout.to_side)
    if rollout.step_at is None or rollout.step_seconds is None:
        return Watch()
    if rollout.paused:
        return Wait(f"it is paused at {rollout.current}", "bisnesctl rollout resume")
    if not rollout.automatic:
        return Wait(f"{rollout.current} of the bots have moved, and it does not advance by itself",
                    "bisnesctl rollout advance")  # fmt: skip
    remaining = (rollout.current.seconds or 0.0) - rollout.step_seconds
    if remaining > 0:
        return Wait(f"{rollout.current} is watched for {duration(remaining)} more")
    if rollout.is_last and not rollout.current.seconds:
        return Finish(Phase.DONE, rollout.to_side, "all steps passed")
    if seen.ruling != "pass":
        return Wait(next(iter(seen.reasons), "there is no verdict yet"))
    if rollout.is_last:
        return Finish(Phase.DONE, rollout.to_side, "all steps passed")
    return Advance()


def changes_of(rollout: Rollout, action: Action) -> dict[str, Any]:
    """The columns of the rollout that an action changes once it is done; `now` means the time of the database."""
    match action:
        case Watch():
            return {"step_at": "now", "ruling": None, "reasons": []}
        case Advance():
            return {"step": rollout.step + 1, "step_at": None, "ruling": None, "reasons": [], "reason": ""}
        case GoBack(reason):
            return {"phase": Phase.BACK, "paused": False, "reason": reason, "failures": 0}
        case Finish(phase, _, reason):
            return {"phase": phase, "paused": False, "ended_at": "now", "reason": reason}
        case StartSide() if rollout.failures:
            return {"failures": 0, "reason": rollout.reason if rollout.phase is Phase.BACK else ""}
        case _:
            return {}
