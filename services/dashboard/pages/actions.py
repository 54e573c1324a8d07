"""The page that says what an action does and costs, and the button that does it."""

import shlex
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, abort, redirect, request, url_for

from bisnesctl.database.postgres import query
from bisnesctl.people.roles import Role
from bisnesctl.processes.restart_costs import COSTS
from services.dashboard import access, findings, rendering, texts
from services.dashboard.access import needs
from services.dashboard.actions import ACTIONS, Action, words_of
from services.dashboard.context import context
from services.dashboard.destinations import own_page

pages = Blueprint("actions", __name__)
#: The instance of these pages.
NAME = "dashboard"
_OWNERS = {
    "message": "SELECT company_id FROM outbox WHERE message_id::text = lower(%s)",
    "letter": """
        SELECT company_id FROM outbox WHERE message_id::text = lower(%(id)s)
        UNION SELECT company_id FROM event WHERE event_id = %(id)s
        UNION SELECT company_id FROM media_download WHERE message_id::text = lower(%(id)s)
        UNION SELECT c.company_id FROM webhook_inbox i JOIN phone_configs c ON c.id = i.bot_id
            WHERE i.id::text = %(id)s""",
}


@pages.get("/do/<action>/<path:subject>")
@needs(Role.OPERATOR, company=True)
def ask(action: str, subject: str) -> Any:
    """Its effect and its costs."""
    return _page(action, subject)


@pages.post("/do/<action>/<path:subject>")
@needs(Role.OPERATOR, company=True)
def run(action: str, subject: str) -> Any:
    """Do it."""
    known = _known(action, subject)
    words = words_of(known, subject, request.form)
    if words is None:
        return _page(action, subject, 400, texts.text("actions.wrong_form"), request.form)
    person = access.person()
    begun = context().commands.begin(
        [*words, *known.consent], person.name, person.company_id, request.remote_addr or "?"
    )
    return redirect(url_for("commands.show", run_id=begun.id))


def _page(
    action: str, subject: str, status: int = 200, message: str = "", typed: Mapping[str, str] | None = None
) -> Any:
    known = _known(action, subject)
    values = {each.name: each.default for each in known.fields} | dict(typed or {})
    return rendering.page(
        "confirm.html", status, title=f"{action} {subject}", line=shlex.join(["bisnesctl", *known.words(subject)]),
        preview=_preview(known, subject), costs=_costs(known, subject), warning=_warning(action, subject),
        fields=known.fields, values=values, message=message, back=_back(known, subject),
        target=url_for("actions.run", action=action, subject=subject),
    )  # fmt: skip


def _preview(action: Action, subject: str) -> str:
    """The effect of an action, as a command says it; empty if none does."""
    commands = context().commands
    if action.preview:
        return commands.output_of(action.preview)
    return commands.preview(action.words(subject)) if action.has_preview else ""


def _known(name: str, subject: str) -> Action:
    """The action, if the person may do it to this subject."""
    action = ACTIONS.get(name)
    if action is None or not action.subject.fullmatch(subject):
        abort(404)
    person = access.person()
    if not person.role.includes(action.role):
        abort(403)
    if person.company_id is not None and not (action.company and _owner(action, subject) == person.company_id):
        abort(403)
    return action


def _owner(action: Action, subject: str) -> str | None:
    """The company that a subject belongs to. Raises `DatabaseUnavailable`."""
    if action.kind == "bot":
        return subject.rpartition("-")[0]
    if action.kind not in _OWNERS:
        return None
    values: Any = {"id": subject} if action.kind == "letter" else (subject,)
    with context().sources.connection() as connection:
        rows = query(connection, _OWNERS[action.kind], values)
    return str(rows[0][0]) if len(rows) == 1 else None


def _costs(action: Action, subject: str) -> str:
    """The service that is missing meanwhile."""
    if action.cost:
        return texts.text(action.cost)
    if action.kind != "process":
        return ""
    found = findings.instance(context().sources.deployment(), subject)
    return COSTS.get(found.program.name, "") if found else ""


def _warning(name: str, subject: str) -> str:
    """The way back, if the action ends this page."""
    return texts.text("actions.stops_dashboard") if name == "stop" and subject == NAME else ""


def _back(action: Action, subject: str) -> str:
    places = {"process": "processes.show", "bot": "numbers.show", "message": "messages.show"}
    if action.kind in places:
        return url_for(places[action.kind], name=subject)
    lists = {"program": "processes.index", "rollout": "rollout.index"}
    if action.kind in lists:
        return url_for(lists[action.kind])
    return own_page(request.args.get("back", "")) or url_for("overview.root")
