"""The verdict on the current step of a rollout, from the figures of both sides."""

from collections.abc import Sequence

from bisnesctl.database.postgres import Connection
from bisnesctl.rollout.state import Rollout


def judge(_connection: Connection, _rollout: Rollout) -> tuple[str, Sequence[str]]:
    """Pass, fail or hold, with the reasons. A step whose figures nobody measures is held, never passed."""
    return "hold", ("no figures are measured: an operator decides",)
