"""Events of processes and numbers, newest first. Without PostgreSQL: those that the guard noted since."""

from typing import Any

from flask import Blueprint, request

from bisnesctl.database.event_log import SEVERITIES, EventFilter
from bisnesctl.health import event_history
from bisnesctl.people.roles import Role
from services.dashboard import rendering
from services.dashboard.access import needs
from services.dashboard.context import context

pages = Blueprint("events", __name__)
#: Events that a page shows.
PAGE_SIZE = 50
#: The end of the year 9999, in seconds since the epoch.
LATEST = 253_402_300_800


@pages.get("/events")
@needs(Role.VIEWER)
def index() -> Any:
    """The list, from a severity on, of one kind."""
    chosen, kind, before = (request.args.get(name, "").strip() for name in ("severity", "kind", "before"))
    severity = chosen if chosen in SEVERITIES else SEVERITIES[0]
    wanted = EventFilter(
        severity=severity, kinds=(f"*{kind}*",) if kind else (), limit=PAGE_SIZE, until=_moment(before)
    )
    found = event_history.read(context().sources.deployment(), wanted)
    return rendering.page(
        "events.html", events=found.events, unavailable=found.unavailable, severity=severity, severities=SEVERITIES,
        kind=kind, last=found.events[-1].at if len(found.events) == PAGE_SIZE else None,
    )  # fmt: skip


def _moment(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 <= found < LATEST else None
