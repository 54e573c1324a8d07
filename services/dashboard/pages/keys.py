"""The API keys by their first characters. `bisnesctl keys` creates and revokes them."""

from typing import Any

from flask import Blueprint, request

from bisnesctl.database import api_keys
from bisnesctl.people.roles import Role
from services.dashboard import parameters, rendering
from services.dashboard.access import needs
from services.dashboard.context import context
from services.dashboard.destinations import following_page

pages = Blueprint("keys", __name__)
#: Keys that a page shows.
PAGE_SIZE = 100


@pages.get("/keys")
@needs(Role.ADMINISTRATOR)
def index() -> Any:
    """All keys, the oldest first."""
    after = parameters.number(request.args.get("after")) or 0
    with context().sources.connection() as connection:
        found = api_keys.find(connection, after=after, limit=PAGE_SIZE + 1)
    following = following_page("keys.index", after=found[PAGE_SIZE - 1].id) if len(found) > PAGE_SIZE else ""
    return rendering.page("keys.html", keys=found[:PAGE_SIZE], following=following)
