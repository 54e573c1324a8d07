"""Dead letters: messages, webhooks in both directions, files."""

from typing import Any

from flask import Blueprint, abort, request

from bisnesctl.database import dead_letters
from bisnesctl.errors import UsageError
from bisnesctl.people.roles import Role
from services.dashboard import access, rendering
from services.dashboard.access import needs
from services.dashboard.context import context
from services.dashboard.destinations import following_page

pages = Blueprint("dead_letters", __name__)
#: Letters that the page shows.
PAGE_SIZE = 50


@pages.get("/dead-letters")
@needs(Role.VIEWER, company=True)
def index() -> Any:
    """The newest ones of one kind or all."""
    chosen = request.args.get("kind", "")
    kind = chosen if chosen in dead_letters.KINDS else None
    after = request.args.get("after", "")
    with context().sources.connection() as connection:
        try:
            found, place = dead_letters.find(connection, PAGE_SIZE, kind, access.company(), after)
        except UsageError:
            abort(404)
    following = following_page("dead_letters.index", after=place) if place else ""
    return rendering.page("dead_letters.html", letters=found, following=following, kind=kind, kinds=dead_letters.KINDS)
