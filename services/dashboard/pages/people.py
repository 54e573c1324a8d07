"""The people who may sign in. They are invited and changed by `bisnesctl users`."""

from typing import Any

from flask import Blueprint

from bisnesctl.people.roles import Role
from services.dashboard import rendering
from services.dashboard.access import needs
from services.dashboard.context import context

pages = Blueprint("people", __name__)


@pages.get("/people")
@needs(Role.ADMINISTRATOR)
def index() -> Any:
    """All people."""
    return rendering.page("people.html", people=context().sources.people.people())
