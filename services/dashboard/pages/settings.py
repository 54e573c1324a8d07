"""The settings in force, read only. A secret is shown as set or not set."""

from typing import Any

from flask import Blueprint

from bisnesctl.people.roles import Role
from bisnesctl.settings import NO_SECRET, Settings, load_partly
from services.dashboard import findings, rendering
from services.dashboard.access import needs

pages = Blueprint("settings", __name__)


@pages.get("/settings")
@needs(Role.ADMINISTRATOR)
def index() -> Any:
    """All settings, where each comes from, and which differ from what runs."""
    found = load_partly()
    shown = found.with_defaults()
    rows = [
        (name.upper(), _shown(shown, name), shown.origin(name) if shown.is_given(name) else "", field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return rendering.page("settings.html", rows=rows, problems=found.problems, drift=findings.overview().drift)


def _shown(settings: Settings, name: str) -> str | None:
    """The value as text; None for a secret that is set."""
    value = getattr(settings, name)
    if "Secret" in str(Settings.model_fields[name].annotation):
        return None if value not in (None, NO_SECRET) and value.get_secret_value() else ""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
