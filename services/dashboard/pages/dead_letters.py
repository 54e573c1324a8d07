"""Dead letters: messages, webhooks in both directions, files."""

from typing import Any

from flask import Blueprint, request

from bisnesctl.database import dead_letters
from bisnesctl.people.roles import Role
from services.dashboard import access, rendering
from services.dashboard.access import needs
from services.dashboard.context import context

pages = Blueprint("dead_letters", __name__)
#: Letters that the page shows.
PAGE_SIZE = 100


@pages.get("/dead-letters")
@needs(Role.VIEWER, company=True)
def index() -> Any:
    """The newest ones of one kind or all."""
    chosen = request.args.get("kind", "")
    kind = chosen if chosen in dead_letters.KINDS else None
    with context().sources.connection() as connection:
        found, more = dead_letters.find(connection, PAGE_SIZE, kind, access.company())
    return rendering.page("dead_letters.html", letters=found, more=more, kind=kind, kinds=dead_letters.KINDS)
