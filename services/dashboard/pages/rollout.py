"""The rollout that is under way, or the last one: both sides, the verdict, what comes next, and what can be done."""

from typing import Any

from flask import Blueprint

from bisnesctl.people.roles import Role
from bisnesctl.rollout import overview
from bisnesctl.rollout.overview import Overview
from bisnesctl.rollout.state import Phase
from services.dashboard import rendering
from services.dashboard.access import needs
from services.dashboard.context import context

pages = Blueprint("rollout", __name__)
#: Actions that begin a rollout.
BEGINNINGS = ("begin", "begin-by-itself")
#: Seconds for which what was found is shared: the figures of a step are costly.
SHARED_SECONDS = 5.0


@pages.get("/rollout")
@needs(Role.VIEWER)
def index() -> Any:
    """The page of `bisnesctl rollout status`."""
    sources = context().sources
    found = sources.shared("rollout", lambda: overview.overview(sources.deployment()), SHARED_SECONDS)
    return rendering.page("rollout.html", overview=found, rollout=found.rollout, actions=_actions(found))


def _actions(found: Overview) -> list[str]:
    """The actions that an operator may do now."""
    rollout = found.rollout
    if rollout is None or rollout.phase is Phase.UNDONE:
        return list(BEGINNINGS)
    if rollout.phase is Phase.BACK:
        return []
    if rollout.phase is Phase.DONE:
        return [*BEGINNINGS, "abort"]
    step = "advance" if rollout.step_at is None or rollout.ruling == "pass" else "advance-anyway"
    return [step, "continue" if rollout.paused else "hold", "abort"]
