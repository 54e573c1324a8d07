"""Webhooks of customers: their addresses, deliveries with results, one delivery again, and test events.

Addresses are shown without what may be a secret. Changes go through the API, with the operator's key.
"""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, abort, redirect, request, url_for

from bisnesctl import masking
from bisnesctl.clients.api_client import ApiClient, Refused
from bisnesctl.errors import BisnesError
from bisnesctl.people.roles import Role
from services.dashboard import access, audit, parameters, rendering
from services.dashboard.access import needs
from services.dashboard.context import context
from services.dashboard.destinations import following_page
from services.database.connection import as_uuid
from services.events import webhooks as registry

pages = Blueprint("webhooks", __name__)
#: Webhooks, and deliveries of one, that a page shows.
PAGE_SIZE = 50
#: States of a delivery.
STATES = ("pending", "delivered", "dead")
#: Larger than the number of any delivery.
NEWEST = 2**63 - 1

Webhook = dict[str, Any]


@pages.get("/webhooks")
@needs(Role.VIEWER, company=True)
def index() -> Any:
    """All webhooks, those of a company if it is asked for."""
    company = access.company() or request.args.get("company", "").strip() or None
    after = as_uuid(request.args.get("after", ""))
    with context().sources.connection() as connection:
        found, following = registry.page(connection, company, after, PAGE_SIZE)
    return rendering.page(
        "webhooks.html", webhooks=found, company=company, state_of=state_of, address=masking.address, plain=_plain,
        following=following_page("webhooks.index", after=following) if following else "",
    )  # fmt: skip


@pages.get("/webhooks/<webhook>")
@needs(Role.VIEWER, company=True)
def show(webhook: str) -> Any:
    """One webhook with its deliveries, the newest event first."""
    return _page(_find(webhook))


@pages.post("/webhooks/<webhook>/test")
@needs(Role.OPERATOR, company=True)
def test(webhook: str) -> Any:
    """Send a test event."""
    return _change(_find(webhook), "test webhook", lambda api, name: api.test_webhook(name))


@pages.post("/webhooks/<webhook>/replay")
@needs(Role.OPERATOR, company=True)
def replay(webhook: str) -> Any:
    """Send one event again."""
    event = request.form.get("event", "")
    return _change(_find(webhook), "replay event", lambda api, name: api.replay_event(name, event), event=event)


def state_of(webhook: Webhook) -> str:
    """The state in a word: whether it is used, and whether its calls succeed."""
    if not webhook["active"]:
        return "inactive"
    if webhook["pausedUntil"]:
        return "paused"
    return "failing" if webhook["failures"] else "active"


def _find(text: str) -> Webhook:
    """The webhook, if the person may see it."""
    name = as_uuid(text)
    with context().sources.connection() as connection:
        found = None if name is None else registry.find(connection, name)
    if found is None or access.company() not in (None, found["company"]):
        abort(404)
    return found


def _change(webhook: Webhook, action: str, change: Callable[[ApiClient, str], object], **arguments: str) -> Any:
    """Changes something by the API, and shows the webhook again; with the reason if that fails."""
    about = {"webhook": webhook["id"]} | arguments
    settings, person = context().settings, access.person().name
    try:
        change(context().api(), webhook["id"])
    except BisnesError as error:
        audit.record_failure(settings, person, action, str(error), webhook["company"], **about)
        return _page(webhook, 400 if isinstance(error, Refused) else 503, str(error))
    audit.record(settings, person, action, webhook["company"], **about)
    return redirect(url_for("webhooks.show", webhook=webhook["id"]))


def _page(webhook: Webhook, status: int = 200, message: str = "") -> Any:
    chosen = request.args.get("state", "")
    state = chosen if chosen in STATES else None
    given = parameters.number(request.args.get("before"), 18)
    start = NEWEST if given is None else given
    with context().sources.connection() as connection:
        deliveries, following = registry.deliveries(connection, webhook["id"], state, start, PAGE_SIZE)
    older = url_for("webhooks.show", webhook=webhook["id"], state=state, before=following) if following else ""
    return rendering.page(
        "webhook.html", status, webhook=webhook, url=masking.address(webhook["url"]), state=state_of(webhook),
        deliveries=deliveries, chosen=state, states=STATES, older=older, message=message, plain=_plain,
    )  # fmt: skip


def _plain(text: str | None) -> str:
    """The reason of a failure without passwords and addresses' credentials."""
    return masking.text(text or "")
