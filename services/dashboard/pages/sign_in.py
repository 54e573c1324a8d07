"""Signing in and out, and the invitation with which somebody sets the first password."""

from ipaddress import ip_address
from typing import Any

from flask import Blueprint, g, redirect, request, url_for

from bisnesctl.errors import UsageError
from bisnesctl.people import passwords
from bisnesctl.people.roles import Role
from bisnesctl.people.sign_in import Refused
from bisnesctl.people.sign_in import sign_in as begin
from services.dashboard import access, audit, rendering, texts
from services.dashboard.access import needs, open_to_all
from services.dashboard.context import context
from services.dashboard.destinations import own_page

pages = Blueprint("sign_in", __name__)


@pages.get("/sign-in")
@open_to_all
def show() -> Any:
    """The form."""
    if g.sign_in is not None:
        return redirect(_next())
    return _form()


@pages.post("/sign-in")
@open_to_all
def sign_in() -> Any:
    """Sign in, and go to the page that was wanted."""
    name, people, settings = request.form.get("name", ""), context().sources.people, context().settings
    agent = request.user_agent.string
    try:
        token = begin(people, name, request.form.get("password", ""), request.form.get("code", ""), _address(), agent)
    except Refused as refused:
        audit.record_failure(settings, _shown(name), "sign in", "wrong name, password or one-time code")
        if refused.wait_seconds:
            return _form(429, texts.text("sign_in.wait", seconds=round(refused.wait_seconds)))
        if refused.needs_code:
            return _form(401, texts.text("sign_in.code_wanted"), wants_code=True)
        return _form(401, texts.text("sign_in.wrong"))
    audit.record(settings, _shown(name), "sign in")
    response = redirect(_next())
    access.remember(response, token)
    return response


@pages.post("/sign-out")
@needs(Role.VIEWER, company=True)
def sign_out() -> Any:
    """Sign this browser out."""
    context().sources.people.end(g.sign_in.digest)
    response = redirect(url_for("sign_in.show"))
    access.forget(response)
    return response


@pages.get("/invitation")
@open_to_all
def invitation() -> Any:
    """The form for the first password. The code is behind the # of the link, from where a script takes it."""
    return rendering.page("invitation.html", message="", min_length=passwords.MIN_LENGTH, code="")


@pages.post("/invitation")
@open_to_all
def accept() -> Any:
    """Set the password of an invitation's person."""
    code, password = request.form.get("code", "").strip(), request.form.get("password", "")
    people = context().sources.people
    name = people.invited(code)
    message = texts.text("invitation.invalid")
    if name is not None:
        try:
            passwords.check(password, name)
            if password != request.form.get("again", ""):
                raise UsageError(texts.text("invitation.different"))
        except UsageError as error:
            message = str(error)
        else:
            people.accept(code, passwords.hash_of(password))
            audit.record(context().settings, name, "accept invitation")
            return redirect(url_for("sign_in.show", name=name))
    return rendering.page("invitation.html", 400, message=message, min_length=passwords.MIN_LENGTH, code=code)


def _form(status: int = 200, message: str = "", wants_code: bool = False) -> Any:
    return rendering.page(
        "sign_in.html", status, message=message, wants_code=wants_code, is_safe=_keeps_cookies(),
        name=request.values.get("name", ""), next=request.values.get("next", ""),
        nobody=not context().sources.people.people(),
    )  # fmt: skip


def _next() -> str:
    return own_page(request.values.get("next", "")) or url_for("overview.index")


def _address() -> str:
    return request.remote_addr or "?"


def _shown(name: str) -> str:
    return "".join(sign for sign in name[:64] if sign.isprintable()) or "nobody"


def _keeps_cookies() -> bool:
    """Whether the browser keeps our cookie: over TLS, or on the machine itself."""
    host = request.host.rsplit(":", 1)[0].strip("[]")
    if request.is_secure or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
