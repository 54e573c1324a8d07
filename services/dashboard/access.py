"""Access to the pages: the sign-in behind a request's cookie, the role that a route demands, and forged requests.

Every view is declared with `needs` or `open_to_all`; `check_routes` refuses an application with a view that is not.
A request that changes something must come from a page of ours: the browser says so in `Sec-Fetch-Site` or `Origin`, and
the form has a token that only a signed-in person's pages have.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import Flask, current_app, g, request
from werkzeug.exceptions import BadRequest, Forbidden
from werkzeug.wrappers import Response as AnyResponse

from bisnesctl.people.roles import Role
from bisnesctl.people.store import PeopleStore, Person, SignIn

#: The cookie with the token of a sign-in. Browsers keep a cookie of this prefix only for the host itself, over TLS or
#: on this machine.
COOKIE = "__Host-bisnes"
#: The field of a form with the token against forged requests.
CSRF_FIELD = "csrf"
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_ATTRIBUTE = "access"

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Access:
    """The people who may open a view. None as the role: everybody."""

    role: Role | None
    #: Whether a person of one company may open it; it then shows that company only.
    company: bool = False
    #: Bytes of its form, at most; None: as every other page.
    max_form: int | None = None

    def allows(self, person: Person) -> bool:
        """Whether this person may open it."""
        return self.role is None or (person.role.includes(self.role) and (self.company or person.company_id is None))


class NotSignedIn(Exception):
    """The page needs somebody who is signed in."""


def needs(role: Role, company: bool = False, max_form: int | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declares the role of a view. `company`: people of one company may open it too, and see only that company.

    `max_form`: bytes of its form, at most, if it takes files.
    """

    def declare(view: Callable[P, R]) -> Callable[P, R]:
        setattr(view, _ATTRIBUTE, Access(role, company, max_form))
        return view

    return declare


def open_to_all(view: Callable[P, R]) -> Callable[P, R]:
    """Declares a view that nobody has to sign in for."""
    setattr(view, _ATTRIBUTE, Access(None))
    return view


def access_of(app: Flask, endpoint: str) -> Access:
    """The declaration of a view. Raises `LookupError` if it has none."""
    found = getattr(app.view_functions[endpoint], _ATTRIBUTE, None)
    if not isinstance(found, Access):
        raise LookupError(f"the view {endpoint} says nobody's role: declare it with needs or open_to_all")
    return found


def check_routes(app: Flask) -> None:
    """Raises `LookupError` if a view declares no access."""
    for rule in app.url_map.iter_rules():
        access_of(app, rule.endpoint)


def attach(app: Flask, store: PeopleStore) -> None:
    """Check every request of the application."""

    @app.before_request
    def check() -> None:
        g.sign_in = None
        if request.endpoint is None:  # no such address
            return
        access = access_of(current_app, request.endpoint)
        if request.method in _CHANGING:
            _check_origin()
        token = request.cookies.get(COOKIE, "")
        if token and not request.path.startswith(app.static_url_path or "\0"):
            g.sign_in = store.of_token(token)
        if access.role is None:
            return
        if g.sign_in is None:
            raise NotSignedIn
        if not access.allows(g.sign_in.person):
            raise Forbidden
        if access.max_form is not None:
            request.max_content_length = access.max_form
        if request.method in _CHANGING and not _has_csrf_token(token):
            raise Forbidden("the form is older than the sign-in: open the page again")
        if request.method in _CHANGING and any("\0" in each for each in request.form.values()):
            raise BadRequest  # PostgreSQL knows no such text


def person() -> Person:
    """The person whose request this is."""
    found: SignIn = g.sign_in
    return found.person


def company() -> str | None:
    """The only company that this request's person may see; None: all."""
    return person().company_id


def may(role: str) -> bool:
    """Whether somebody is signed in who has this role."""
    return g.get("sign_in") is not None and person().role.includes(Role(role))


def can_open(endpoint: str) -> bool:
    """Whether the request's person may open a view."""
    return g.get("sign_in") is not None and access_of(current_app, endpoint).allows(person())


def csrf_token() -> str:
    """The token of forms in pages of this sign-in; empty if nobody is signed in."""
    return _csrf_token(request.cookies.get(COOKIE, "")) if g.get("sign_in") else ""


def _csrf_token(token: str) -> str:
    return hmac.digest(token.encode("utf-8", "surrogatepass"), b"csrf", "sha256").hex()


def _has_csrf_token(token: str) -> bool:
    sent = request.form.get(CSRF_FIELD, "")
    return hmac.compare_digest(_csrf_token(token).encode(), sent.encode("utf-8", "replace"))


def _check_origin() -> None:
    """Raises `Forbidden` for a request that a page of another site makes."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_own = site == "same-origin" if site else origin is None or urlsplit(origin).netloc == request.host
    if not is_own:
        raise Forbidden("another site made this request")


def remember(response: AnyResponse, token: str) -> None:
    """Have the browser keep the token of a sign-in until it is closed, or the sign-in ends here."""
    response.set_cookie(COOKIE, token, secure=True, httponly=True, samesite="Lax", path="/")


def forget(response: AnyResponse) -> None:
    """Have the browser forget the token."""
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="Lax", path="/")
