"""The first page: the troubles that need attention, why, the commands that help, and figures over time."""

from typing import Any

from flask import Blueprint, redirect, url_for

from bisnesctl.people.roles import Role
from services.dashboard import figures, findings, rendering
from services.dashboard.access import needs

pages = Blueprint("overview", __name__)


@pages.get("")
@needs(Role.VIEWER, company=True)
def root() -> Any:
    """The address without a page."""
    return redirect(url_for("overview.index"))


@pages.get("/")
@needs(Role.VIEWER)
def index() -> Any:
    """The overview."""
    found = findings.overview()
    troubles = [row for row in found.processes if row.status not in findings.WELL]
    stopped = [row for row in found.processes if row.status == findings.STOPPED and row.reason]
    return rendering.page("overview.html", overview=found, troubles=troubles, stopped=stopped, plots=figures.overview())
