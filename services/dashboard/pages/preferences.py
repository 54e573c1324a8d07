"""The language that a browser keeps."""

from typing import Any

from flask import Blueprint, redirect, request, url_for
from werkzeug.exceptions import BadRequest

from services.dashboard import texts
from services.dashboard.access import open_to_all
from services.dashboard.destinations import own_page

pages = Blueprint("preferences", __name__)
#: Seconds for which a browser keeps the language.
KEEP_SECONDS = 365 * 86400


@pages.post("/language")
@open_to_all
def language() -> Any:
    """Choose a language, and go back to the page."""
    chosen = request.form.get("language", "")
    if chosen not in texts.languages():
        raise BadRequest
    response = redirect(own_page(request.form.get("next", "")) or url_for("overview.index"))
    response.set_cookie(texts.COOKIE, chosen, max_age=KEEP_SECONDS, httponly=True, samesite="Lax", path="/")
    return response
