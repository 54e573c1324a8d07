"""The API keys by their first characters. `bisnesctl keys` creates and revokes them."""

from typing import Any

from flask import Blueprint

from bisnesctl.database import api_keys
from bisnesctl.people.roles import Role
from services.dashboard import rendering
from services.dashboard.access import needs
from services.dashboard.context import context

pages = Blueprint("keys", __name__)


@pages.get("/keys")
@needs(Role.ADMINISTRATOR)
def index() -> Any:
    """All keys."""
    with context().sources.connection() as connection:
        return rendering.page("keys.html", keys=api_keys.find(connection))
