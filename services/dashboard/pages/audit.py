"""The audit trail: who did what."""

from typing import Any

from flask import Blueprint, request

from bisnesctl.audit import reading
from bisnesctl.audit.store import AuditFilter
from bisnesctl.people.roles import Role
from services.dashboard import parameters, rendering
from services.dashboard.access import needs
from services.dashboard.context import context
from services.dashboard.destinations import following_page

pages = Blueprint("audit", __name__)
#: Records that a page shows.
PAGE_SIZE = 50


@pages.get("/audit")
@needs(Role.ADMINISTRATOR)
def index() -> Any:
    """The newest records, of one person or about one thing."""
    who, what = (request.args.get(name, "").strip() or None for name in ("who", "what"))
    wanted = AuditFilter(
        who=who, what=what, limit=PAGE_SIZE, before=parameters.position(request.args.get("before", ""))
    )
    found = reading.read(context().sources.deployment().settings, wanted)
    older = following_page("audit.index", before=parameters.position_text(*found.last)) if found.last else ""
    return rendering.page("audit.html", trail=found, who=who or "", what=what or "", older=older)
