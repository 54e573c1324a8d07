"""A person's own account: the password, one-time codes, and the browsers in which the person is signed in."""

import base64
from typing import Any

import segno
from flask import Blueprint, abort, g, redirect, request, url_for

from bisnesctl.errors import UsageError
from bisnesctl.people import one_time_codes, passwords
from bisnesctl.people.roles import Role
from services.dashboard import access, audit, rendering, texts
from services.dashboard.access import needs
from services.dashboard.context import context

pages = Blueprint("account", __name__)


@pages.get("/account")
@needs(Role.VIEWER, company=True)
def index() -> Any:
    """The account."""
    return _page()


@pages.post("/account/password")
@needs(Role.VIEWER, company=True)
def set_password() -> Any:
    """Set another password. Other browsers are signed out."""
    people, name = context().sources.people, access.person().name
    if not _is_confirmed():
        return _page(403, texts.text("account.wrong_password"))
    try:
        passwords.check(request.form.get("password", ""), name)
    except UsageError as error:
        return _page(400, str(error))
    people.set_password(name, passwords.hash_of(request.form["password"]), g.sign_in.digest)
    audit.record(context().settings, name, "change password")
    return redirect(url_for("account.index"))


@pages.post("/account/codes")
@needs(Role.VIEWER, company=True)
def propose_codes() -> Any:
    """Show a new secret for one-time codes."""
    if not _is_confirmed():
        return _page(403, texts.text("account.wrong_password"))
    return _page(secret=one_time_codes.new_secret())


@pages.post("/account/codes/confirm")
@needs(Role.VIEWER, company=True)
def confirm_codes() -> Any:
    """Demand one-time codes from now on, if the app shows the right one."""
    secret, name = request.form.get("secret", ""), access.person().name
    if not one_time_codes.is_secret(secret):
        abort(400)
    period = one_time_codes.period_of(secret, request.form.get("code", ""))
    if period is None:
        return _page(400, texts.text("account.wrong_code"), secret=secret)
    context().sources.people.set_code_secret(name, secret, period)
    audit.record(context().settings, name, "turn one-time codes on")
    return redirect(url_for("account.index"))


@pages.post("/account/codes/remove")
@needs(Role.VIEWER, company=True)
def remove_codes() -> Any:
    """Demand no one-time codes any more."""
    name = access.person().name
    if not _is_confirmed():
        return _page(403, texts.text("account.wrong_password"))
    context().sources.people.set_code_secret(name, None)
    audit.record(context().settings, name, "turn one-time codes off")
    return redirect(url_for("account.index"))


@pages.post("/account/sign-out-everywhere")
@needs(Role.VIEWER, company=True)
def sign_out_everywhere() -> Any:
    """Sign the person out in every browser, this one too."""
    name = access.person().name
    context().sources.people.end_all(name)
    audit.record(context().settings, name, "sign out everywhere")
    response = redirect(url_for("sign_in.show"))
    access.forget(response)
    return response


def _is_confirmed() -> bool:
    """Whether the form has the person's current password."""
    secrets = context().sources.people.secrets_of(access.person().name)
    stored = (secrets and secrets.password) or passwords.NOBODY
    return passwords.verify(request.form.get("current", ""), stored)


def _page(status: int = 200, message: str = "", secret: str = "") -> Any:
    person = access.person()
    return rendering.page(
        "account.html", status, person=person, message=message, secret=secret, code=_qr_code(secret, person.name),
        sign_ins=context().sources.people.sign_ins(person.name), own=g.sign_in.digest,
        min_length=passwords.MIN_LENGTH,
    )  # fmt: skip


def _qr_code(secret: str, name: str) -> str:
    """The address for an app as an image in a `data:` URL."""
    if not secret:
        return ""
    code = segno.make(one_time_codes.address(secret, name)).svg_inline(scale=5, dark="#000", light="#fff")
    return f"data:image/svg+xml;base64,{base64.b64encode(code.encode()).decode()}"
