"""The commands that people ran here, and what they print."""

from typing import Any

from flask import Blueprint, abort

from bisnesctl.people.roles import Role
from services.dashboard import access, rendering
from services.dashboard.access import needs
from services.dashboard.context import context

pages = Blueprint("commands", __name__)
#: Runs that the list shows.
SHOWN = 50


@pages.get("/commands")
@needs(Role.VIEWER, company=True)
def index() -> Any:
    """The last ones."""
    return rendering.page("commands.html", runs=context().commands.recent(SHOWN, access.company()))


@pages.get("/commands/<run_id>")
@needs(Role.VIEWER, company=True)
def show(run_id: str) -> Any:
    """One of them, with its output."""
    run = context().commands.find(run_id)
    if run is None or access.company() not in (None, run.company):
        abort(404)
    return rendering.page("command.html", run=run, output=context().commands.output(run_id))
