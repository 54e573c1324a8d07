"""Approved templates of a number: a person chooses one, fills its values in, sees the text, and sends it to a chat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, request

from bisnesctl.bots import store, templates
from bisnesctl.bots.templates import Template
from bisnesctl.errors import BisnesError, UsageError
from bisnesctl.people.roles import Role
from services.dashboard import parameters, rendering, texts
from services.dashboard.access import needs
from services.dashboard.context import context
from services.dashboard.pages import answers, chats
from services.dashboard.pages.chats import Place
from services.database.connection import DatabaseError

pages = Blueprint("templates", __name__)
#: Seconds for which the list of a number is shared by all who look.
SHARED_SECONDS = 60.0
#: Characters of a value, at most, by its part.
LIMITS = {"header": 60, "body": 1024, "file": 2000, "location": 200, "button": 2000}
#: The beginning of the names of form fields with values.
_PREFIX = "value."


@dataclass(frozen=True)
class Choice:
    """The templates of a number, or why there are none, and the chosen one."""

    found: list[Template]
    problem: str = ""
    chosen: Template | None = None


@pages.get("/chats/<company>/<chat>/templates")
@needs(Role.OPERATOR, company=True)
def index(company: str, chat: str) -> Any:
    """The list; with `template` and `language`, the form of that one."""
    return _page(chats.place(company, chat), request.args)


@pages.post("/chats/<company>/<chat>/templates")
@needs(Role.OPERATOR, company=True)
def send(company: str, chat: str) -> Any:
    """Send the chosen template with its values, or show its text with them."""
    place, form = chats.place(company, chat), request.form
    choice = _choice(place, form)
    if choice.chosen is None:
        return _page(place, form, 503 if choice.problem else 400, texts.text("templates.gone"))
    if "preview" in form:
        return _page(place, form)
    try:
        parts = templates.components(choice.chosen, _values(form))
    except UsageError as error:
        return _page(place, form, 400, str(error))
    fields = {"templateName": choice.chosen.name, "language": choice.chosen.language, "components": parts}

    def show(status: int, reason: str, key: str) -> Any:
        return _page(place, form, status, reason, key)

    return answers.send_template(place, fields, show)


def _page(place: Place, given: Mapping[str, str], status: int = 200, message: str = "", key: str = "") -> Any:
    choice, values = _choice(place, given), _values(given)
    chosen = choice.chosen
    wanted = given.get("q", "").strip().casefold()
    shown = [each for each in choice.found if wanted in f"{each.name} {each.body}".casefold()]
    return rendering.page(
        "templates.html", status, place=place, phone=_phone(given), choice=choice, shown=shown, wanted=wanted,
        values=values, message=message, key=key or answers.form_name(), prefix=_PREFIX, limits=LIMITS,
        preview=templates.preview(chosen, values) if chosen else {},
    )  # fmt: skip


def _choice(place: Place, given: Mapping[str, str]) -> Choice:
    phone = _phone(given)
    try:
        found = context().sources.shared(
            ("templates", place.company, phone), lambda: _approved(place.company, phone), SHARED_SECONDS
        )
    except (BisnesError, DatabaseError) as error:
        return Choice([], str(error).strip())
    named = given.get("template", ""), given.get("language", "")
    return Choice(found, "", next((each for each in found if (each.name, each.language) == named), None))


def _approved(company: str, phone: int) -> list[Template]:
    settings = context().sources.deployment().settings
    with context().sources.connection() as connection:
        known = store.known(connection, company, phone)
    if not known:
        raise UsageError(f"company {company} has no number {phone}")
    return templates.approved(settings, known[0])


def _values(given: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(_PREFIX): value for name, value in given.items() if name.startswith(_PREFIX)}


def _phone(given: Mapping[str, str]) -> int:
    return parameters.number(given.get("phone")) or 0
