"""The alerts: what fires, who is notified, and silences. It needs no server."""

from typing import Any

from flask import Blueprint

from bisnesctl.alerts import overview
from bisnesctl.people.roles import Role
from services.dashboard import rendering
from services.dashboard.access import needs
from services.dashboard.context import context

pages = Blueprint("alerts", __name__)


@pages.get("/alerts")
@needs(Role.VIEWER)
def index() -> Any:
    """All of them."""
    return rendering.page("alerts.html", alerts=overview.find(context().sources.deployment()), note=overview.note)
