"""Who asks: API keys, and what each resource demands of them.

A resource names its demand when it is made (`resource`, or `declare` for a blueprint of somebody else's); a
request to one that names none is refused, so that nothing is open by oversight.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from flask import Flask, g, request
from flask.sansio.blueprints import Blueprint
from flask_openapi3 import APIBlueprint, Tag

from services.api.openapi import COMMON, SECURITY, problems
from services.http_server.errors import ApiError
from services.runtime.account_cache import AccountCache, Key

AnyBlueprint = TypeVar("AnyBlueprint", bound=Blueprint)

_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Auth(Enum):
    """What a resource demands."""

    NONE = "none"  # anybody may ask
    COMPANY = "company"  # a key of the company that the address names, or an operator's
    OPERATOR = "operator"  # an operator's key
    KEY = "key"  # any key; whose company the request is about, `company_of` says


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a company, or an operator where `company_id` is None."""

    company_id: str | None

    def require_company(self, company_id: str) -> None:
        """Raise `ApiError` (403) unless the company may be seen."""
        if self.company_id not in (None, company_id):
            message = f"this API key belongs to company {self.company_id}, not to {company_id}"
            raise ApiError(403, "foreign_company", message)

    def require_operator(self) -> None:
        """Raise `ApiError` (403) unless an operator asks."""
        if self.company_id is not None:
            message = "this needs an operator's API key (bisnesctl keys create makes one)"
            raise ApiError(403, "foreign_company", message)


def company_of(principal: Principal, named: str | None) -> str:
    """The company that a request is about, where its address does not say: the key's, or the one an operator names.

    Raises `ApiError`: 400 where an operator named none, 403 where a company's key named another company.
    """
    if named is not None:
        principal.require_company(named)
        return named
    if principal.company_id is None:
        message = "company: an operator's key speaks for no company; name the one that is meant as company"
        raise ApiError(400, "invalid_request", message)
    return principal.company_id


def key_digest(api_key: str | None, authorization: str | None) -> bytes:
    """SHA-256 of the presented key, from the headers `X-Api-Key` (which wins) and `Authorization`.

    Raises `ApiError` (401, no_key) where neither has one.
    """
    key = (api_key or "").strip()
    if not key and authorization:
        scheme, _, credentials = authorization.strip().partition(" ")
        key = credentials.strip() if scheme.lower() == "bearer" else ""
    if not key:
        message = "send your API key as X-Api-Key or as Authorization: Bearer <key>"
        raise ApiError(401, "no_key", message, _CHALLENGE)
    return hashlib.sha256(key.encode()).digest()


def principal_of(key: Key | None) -> Principal:
    """Whose key it is. Raises `ApiError` (401, invalid_key) for one that is unknown or was revoked."""
    if key is None:
        message = "this API key is unknown or was revoked (bisnesctl keys list)"
        raise ApiError(401, "invalid_key", message, _CHALLENGE)
    return Principal(key.company_id)


def authenticate(directory: AccountCache, api_key: str | None, authorization: str | None) -> Principal:
    """Whoever the two headers speak for. Raises `ApiError` (401) or `DatabaseUnavailable`."""
    return principal_of(directory.key(key_digest(api_key, authorization)))


def resource(name: str, about: str, auth: Auth) -> APIBlueprint:
    """A blueprint that demands `auth`; its OpenAPI operations say so and list the errors that follow."""
    blueprint = APIBlueprint(
        name,
        __name__,
        abp_tags=[Tag(name=name, description=about)],
        abp_security=[{}] if auth is Auth.NONE else [{scheme: []} for scheme in SECURITY],
        abp_responses=problems(*_REFUSALS[auth]),
    )
    return declare(blueprint, auth)


_ALWAYS = ("invalid_request", "internal", *COMMON)
_WITH_KEY = (*_ALWAYS, "no_key", "invalid_key", "foreign_company", "database_unavailable")
_REFUSALS = {Auth.NONE: _ALWAYS, Auth.COMPANY: _WITH_KEY, Auth.OPERATOR: _WITH_KEY, Auth.KEY: _WITH_KEY}


def declare(blueprint: AnyBlueprint, auth: Auth) -> AnyBlueprint:
    """State what a blueprint demands; returns it."""
    setattr(blueprint, "auth", auth)  # noqa: B010 - blueprints of others have no such field
    return blueprint


def declared(blueprint: Blueprint | None) -> Auth | None:
    """What the blueprint demands, or None where nobody has said it."""
    return getattr(blueprint, "auth", None)


def guard(app: Flask, directory: AccountCache) -> None:
    """Let every request prove that it meets its resource's demand, before anything else of it is read."""

    @app.before_request
    def check() -> None:
        if request.endpoint is None:
            return  # no such address: answered as 404 or 405
        auth = declared(app.blueprints.get(request.blueprint or ""))
        if auth is None:
            raise RuntimeError(f"the route {request.endpoint} does not name its auth")
        if auth is not Auth.NONE:
            headers = request.headers
            _admit(authenticate(directory, headers.get("X-Api-Key"), headers.get("Authorization")), auth)


def _admit(principal: Principal, auth: Auth) -> None:
    if auth is Auth.OPERATOR:
        principal.require_operator()
    elif auth is Auth.COMPANY:
        principal.require_company((request.view_args or {})["companyId"])
    g.principal = principal
