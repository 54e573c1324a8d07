"""The health of the process itself, for probes. It shows nothing of the deployment."""

import time
from typing import Any

from flask import Blueprint

from services.dashboard.access import open_to_all

pages = Blueprint("health", __name__)
_started = time.monotonic()


@pages.get("/health")
@pages.get("/api/health")
@pages.get("/health/live")
@pages.get("/health/ready")
@open_to_all
def live() -> Any:
    """Whether the process answers. It is ready without PostgreSQL and Redis: the pages say what they cannot see."""
    return {"success": True, "status": "ok", "process": "dashboard", "uptime": int(time.monotonic() - _started)}
