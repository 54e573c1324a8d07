"""The numbers of both channels: their states, one number, and the QR code while it is linked."""

from typing import Any

from flask import Blueprint, Response, abort, request

from bisnesctl.bots import qr_codes, store, web_sessions
from bisnesctl.bots.store import Bot
from bisnesctl.people.roles import Role
from bisnesctl.views import bot_page
from bisnesctl.views.bot_page import BotPage
from services.dashboard import access, rendering
from services.dashboard.access import needs
from services.dashboard.context import context
from services.dashboard.destinations import following_page

pages = Blueprint("numbers", __name__)
#: Numbers that a page of the list shows.
PAGE_SIZE = 50


@pages.get("/numbers")
@needs(Role.VIEWER, company=True)
def index() -> Any:
    """The list, by company; those that need attention first if they are asked for."""
    company = access.company() or request.args.get("company", "").strip() or None
    wanted, after = request.args.get("q", "").strip().casefold(), request.args.get("after", "")
    only_bad = request.args.get("state") == "bad"
    with context().sources.connection() as connection:
        found = store.find(connection, company)
    rows = [each for each in found if wanted in _text(each).casefold() and not (only_bad and state_of(each) in GOOD)]
    rows = [each for each in rows if not after or _key(each) > _parsed(after)]
    shown, more = rows[:PAGE_SIZE], len(rows) > PAGE_SIZE
    last = f"{shown[-1].company}-{shown[-1].phone}" if shown else ""
    return rendering.page(
        "numbers.html", numbers=shown, total=len(found), wanted=wanted, only_bad=only_bad, state_of=state_of,
        reason_of=reason_of, following=following_page("numbers.index", after=last) if more else "",
    )  # fmt: skip


@pages.get("/numbers/<name>")
@needs(Role.VIEWER, company=True)
def show(name: str) -> Any:
    """One number."""
    company, phone = _named(name)
    sources = context().sources
    page = sources.shared(("number", name), lambda: bot_page.describe(sources.deployment(), company, phone))
    if page is None:
        abort(404)
    return rendering.page("number.html", page=page, actions=_actions(page), is_scanning=page.actual == "SCAN_QR_CODE")


@pages.get("/numbers/<name>/qr.svg")
@needs(Role.OPERATOR, company=True)
def qr_code(name: str) -> Any:
    """The QR code that the number's session shows now. It is a credential: operators only, and it is not kept."""
    company, phone = _named(name)
    with context().sources.connection() as connection:
        found = web_sessions.find(connection, company, phone)
    code = found[0].qr if found else None
    if code is None:
        abort(404)
    return Response(qr_codes.svg(code.text), mimetype="image/svg+xml")


#: States of a number that need nobody.
GOOD = ("sending", "WORKING", "STOPPED")


def state_of(bot: Bot) -> str:
    """The state in a word: what stops it, or else that of its session, or `sending`."""
    if bot.paused:
        return "paused"
    if bot.held_until is not None:
        return "held"
    if bot.blocked_until is not None:
        return "blocked"
    if bot.outage:
        return "unavailable"
    return bot.session or "sending"


def reason_of(bot: Bot) -> str:
    """Why it is in its state."""
    found = (
        bot.paused and bot.paused.get("reason"), bot.held_reason, bot.blocked_reason,
        bot.outage and bot.outage.get("reason"), bot.session_reason, *(each.get("text") for each in bot.problems),
    )  # fmt: skip
    return next((str(each) for each in found if each), "")


def _actions(page: BotPage) -> list[str]:
    found = ["pause", "resume", "verify"]
    if page.block is not None:
        found.append("unblock")
    if page.session is not None and access.company() is None:
        found.append("restart-session")
    return found


def _text(bot: Bot) -> str:
    return f"{bot.company}-{bot.phone} {bot.display_number or ''} {bot.type} {bot.phone_number_id or ''}"


def _key(bot: Bot) -> tuple[str, int]:
    return bot.company, bot.phone


def _parsed(name: str) -> tuple[str, int]:
    company, _, phone = name.rpartition("-")
    return company, int(phone) if phone.isdecimal() else 0


def _named(name: str) -> tuple[str, int]:
    """The company and index in a bot's name, if the person may see it."""
    company, phone = _parsed(name)
    if not company or access.company() not in (None, company):
        abort(404)
    return company, phone
