"""Authentication: API keys, the companies behind them, and the auth that each resource demands.

A resource declares its auth when it is made (`resource`, or `declare` for a blueprint of another package). A request to
a resource that declares none is refused, so that nothing is open by oversight.
"""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TypeVar

from flask import Flask, current_app, g, request
from flask.sansio.blueprints import Blueprint
from flask_openapi3 import Tag
from werkzeug.datastructures import Headers

from services.api.context import Context
from services.api.field_names import check_request
from services.api.openapi import COMMON, SECURITY, problems
from services.api.quotas import ApiQuotas
from services.api.resource import Resource
from services.http_server.admission import Share
from services.http_server.asgi import Scope, address_of
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError, unknown_host
from services.http_server.host_names import STATE, HostNames
from services.runtime.account_cache import AccountCache, Key

#: Threads that the requests of one company may use at a time.
COMPANY_THREADS = 12
#: The same for one operator's key.
OPERATOR_THREADS = 24
#: The same for all requests without a known key.
STRANGER_THREADS = 4
#: The same for all requests for health.
HEALTH_THREADS = 4
#: Of these threads, and of those for requests without a known key, those of one client's address.
ADDRESS_THREADS = 2
#: The same for all requests that prove themselves without a key, such as providers' webhooks.
OPEN_THREADS = 16
#: Requests with `?wait=` that one company may have open in a process.
COMPANY_WAITS = 100
#: The same for one operator's key.
OPERATOR_WAITS = 400
#: The same for all requests without a known key.
STRANGER_WAITS = 50
#: Threads that look up known keys for the event loop.
KEY_LOOKUP_THREADS = 4
#: Threads that look up unknown keys.
STRANGER_KEY_LOOKUP_THREADS = 2
#: Callers that are remembered by the digest of their key.
MAX_CALLERS = 10_000

#: The headers that may carry a key.
KEY_HEADERS = (b"x-api-key", b"authorization")
_HEALTH = ("/health", "/api/health", "/metrics")
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_EXTENSION = "bisnes"

AnyBlueprint = TypeVar("AnyBlueprint", bound=Blueprint)


class Auth(Enum):
    """The auth that a resource demands."""

    NONE = "none"  # nothing
    COMPANY = "company"  # a key of the company in the address, or an operator's
    OPERATOR = "operator"  # an operator's key
    KEY = "key"  # any key; `company_of` says which company the request is about


@dataclass(frozen=True, slots=True)
class Principal:
    """The company that a key belongs to; None for an operator."""

    company_id: str | None

    def require_company(self, company_id: str) -> None:
        """Raise `ApiError` (403) unless the principal may act for the company."""
        if self.company_id not in (None, company_id):
            message = f"this API key belongs to company {self.company_id}, not to {company_id}"
            raise ApiError(ErrorCode.FOREIGN_COMPANY, message)

    def require_operator(self) -> None:
        """Raise `ApiError` (403) unless the principal is an operator."""
        if self.company_id is not None:
            message = "this needs an operator's API key (bisnesctl keys create makes one)"
            raise ApiError(ErrorCode.FOREIGN_COMPANY, message)


def company_of(principal: Principal, named: str | None) -> str:
    """The company that a request without a company in its address is about: the key's, or the one that it names.

    Raises `ApiError`: 400 if an operator named none, 403 if a company's key named another company.
    """
    if named is not None:
        principal.require_company(named)
        return named
    if principal.company_id is None:
        message = "company: an operator's key belongs to no company; name the company"
        raise ApiError(ErrorCode.INVALID_REQUEST, message)
    return principal.company_id


def company_filter(principal: Principal, named: str | None) -> str | None:
    """The company whose items a list shows; None: those of all companies, for an operator.

    Raises `ApiError` (403) if a company's key named another company.
    """
    company_id = principal.company_id if named is None else named
    if company_id is not None:
        principal.require_company(company_id)
    return company_id


def key_digest(api_key: str | None, authorization: str | None) -> bytes:
    """SHA-256 of the key in the header `X-Api-Key` or else `Authorization`.

    Raises `ApiError` (401, no_key) if neither has one.
    """
    key = (api_key or "").strip()
    if not key and authorization:
        scheme, _, credentials = authorization.strip().partition(" ")
        key = credentials.strip() if scheme.lower() == "bearer" else ""
    if not key:
        raise ApiError(ErrorCode.NO_KEY, ErrorCode.NO_KEY.example, _CHALLENGE)
    return hashlib.sha256(key.encode()).digest()


def digest_of(scope: Scope) -> bytes:
    """The digest of the key of an ASGI request. Raises `ApiError` (401, no_key)."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in KEY_HEADERS}
    return key_digest(headers.get(b"x-api-key"), headers.get(b"authorization"))


def find_key(accounts: AccountCache, quotas: ApiQuotas, digest: bytes, address: str) -> Key | None:
    """The key with this digest, which came from a client address; None if it is unknown or was revoked.

    Raises `ApiError` (429) if too many wrong keys came from there, and `DatabaseUnavailable`.
    """
    known = accounts.cached_key(digest)
    if known is not None:
        return known
    quotas.check_address(address, digest)
    key = accounts.key(digest)
    if key is None:
        quotas.note_wrong_key(address)
    return key


def principal_of(key: Key | None) -> Principal:
    """The principal of a key. Raises `ApiError` (401, invalid_key) if the key is unknown or was revoked."""
    if key is None:
        raise ApiError(ErrorCode.INVALID_KEY, ErrorCode.INVALID_KEY.example, _CHALLENGE)
    return Principal(key.company_id)


def resource(name: str, about: str, auth: Auth, *, recorded: bool = True) -> Resource:
    """A blueprint that demands `auth`; its OpenAPI operations list the errors that follow from it.

    `recorded`: whether its requests that are no GET go to the audit trail. Those that send messages do not.
    """
    blueprint = Resource(
        name,
        abp_tags=[Tag(name=name, description=about)],
        abp_security=[{}] if auth is Auth.NONE else [{scheme: []} for scheme in SECURITY],
        abp_responses=problems(*_ALWAYS) if auth is Auth.NONE else problems(*_ALWAYS, *_WITH_KEY),
    )
    setattr(blueprint, "recorded", recorded)  # noqa: B010 - blueprints of others have no such field
    return declare(blueprint, auth)


_ALWAYS = ("invalid_request", "internal", *COMMON)
_WITH_KEY = ("no_key", "invalid_key", "foreign_company", "rate_limited", "too_many_wrong_keys", "database_unavailable")


def declare(blueprint: AnyBlueprint, auth: Auth) -> AnyBlueprint:
    """State what a blueprint demands; returns it."""
    setattr(blueprint, "auth", auth)  # noqa: B010 - blueprints of others have no such field
    return blueprint


def declared(blueprint: Blueprint | None) -> Auth | None:
    """The auth that the blueprint demands, or None if it does not declare any."""
    return getattr(blueprint, "auth", None)


def is_recorded(blueprint: Blueprint | None) -> bool:
    """Whether requests to the blueprint that are no GET go to the audit trail."""
    return blueprint is not None and getattr(blueprint, "recorded", False)


def guard(app: Flask, context: Context) -> None:
    """Serve the application's requests with `context`, each once it has met the demand of its resource.

    Requests to resources with a key have only parameters that their routes read; health takes any, since probes and
    caches add their own.
    """
    app.extensions[_EXTENSION] = context
    names = HostNames([context.settings.public_url or ""])

    @app.before_request
    def check() -> None:
        if request.endpoint is None:
            return  # no such address: answered as 404 or 405
        auth = declared(app.blueprints.get(request.blueprint or ""))
        if auth is None:
            raise RuntimeError(f"the route {request.endpoint} does not declare its auth")
        headers = request.headers
        if auth is Auth.NONE:
            host = headers.get("Host", "")
            if request.path.startswith(STATE) and not (names.include(host) or _has_key(context, headers)):
                raise unknown_host(host)
            return
        digest = key_digest(headers.get("X-Api-Key"), headers.get("Authorization"))
        key = find_key(context.accounts, context.quotas, digest, request.remote_addr or "")
        g.principal, g.key = principal_of(key), key
        context.quotas.take_request(g.principal.company_id)
        if auth is Auth.OPERATOR:
            g.principal.require_operator()
        elif auth is Auth.COMPANY:
            g.principal.require_company((request.view_args or {})["companyId"])
        check_request(app, request)


def _has_key(context: Context, headers: Headers) -> bool:
    try:
        digest = key_digest(headers.get("X-Api-Key"), headers.get("Authorization"))
        return find_key(context.accounts, context.quotas, digest, request.remote_addr or "") is not None
    except ApiError:
        return False


def context() -> Context:
    """The context of the application whose request is being answered."""
    found: Context = current_app.extensions[_EXTENSION]
    return found


@dataclass(frozen=True, slots=True)
class Caller:
    """The name under which a request counts while it is served: a company, an operator's key, or a group without keys.

    Callers share the server, so that none uses what the others need. They grant nothing: the key of each request does.
    """

    name: str
    threads: int
    waits: int = 0
    #: Whether its requests use the threads that are reserved for known keys.
    has_key: bool = True

    @property
    def share(self) -> Share:
        """Its share of the threads. Strangers have no name but their address, so that one of them leaves room."""
        return Share(self.name, self.threads, None if self.has_key else ADDRESS_THREADS)


STRANGERS = Caller("strangers", STRANGER_THREADS, STRANGER_WAITS, has_key=False)
HEALTH = Caller("health", HEALTH_THREADS, has_key=False)
OPEN = Caller("open", OPEN_THREADS)


class Callers:
    """Identifies callers on the event loop, and remembers them while their keys must be looked up again."""

    def __init__(self, accounts: AccountCache, quotas: ApiQuotas, open_paths: tuple[str, ...] = ()) -> None:
        """`open_paths`: the beginnings of the addresses that need no key."""
        self._accounts, self._quotas = accounts, quotas
        self._open_paths = open_paths
        self._known: dict[bytes, Caller] = {}
        self._lookups = ThreadPoolExecutor(KEY_LOOKUP_THREADS, "keys")
        self._stranger_lookups = ThreadPoolExecutor(STRANGER_KEY_LOOKUP_THREADS, "strangers")

    async def identify(self, scope: Scope, company_id: str | None = None) -> tuple[Principal, Caller]:
        """The principal and the caller of a request with a key. `company_id`: the company in its address.

        Raises `ApiError` (401; 403 if the key is not for that company; 429 after too many wrong ones),
        `DatabaseUnavailable`.
        """
        digest = digest_of(scope)
        key = self._accounts.cached_key(digest)
        if key is None:
            address = address_of(scope)
            self._quotas.check_address(address, digest)  # before it waits for a thread
            threads = self._lookups if digest in self._known else self._stranger_lookups
            look_up = partial(find_key, self._accounts, self._quotas, digest, address)
            key = await asyncio.get_running_loop().run_in_executor(threads, look_up)
        caller, principal = self.note(digest, key), principal_of(key)
        if company_id is not None:
            principal.require_company(company_id)
        return principal, caller

    def close(self) -> None:
        """Look up nothing more."""
        for threads in (self._lookups, self._stranger_lookups):
            threads.shutdown(wait=False, cancel_futures=True)

    def of(self, scope: Scope, digest: bytes | None) -> Caller:
        """The caller of a request. `digest`: its key's; None if it has no key."""
        path: str = scope["path"]
        if path.startswith(_HEALTH):
            return HEALTH
        if self._open_paths and path.startswith(self._open_paths):
            return OPEN
        if digest is None:
            return STRANGERS
        key = self._accounts.cached_key(digest)
        return self.note(digest, key) if key is not None else self._known.get(digest, STRANGERS)

    def share_of(self, scope: Scope) -> Share:
        """The share of the threads of a request's caller."""
        try:
            digest = digest_of(scope)
        except ApiError:
            digest = None
        return self.of(scope, digest).share

    def note(self, digest: bytes, key: Key | None) -> Caller:
        """The caller of a key that was looked up; None: the key is unknown or was revoked."""
        if key is None:
            self._known.pop(digest, None)
            return STRANGERS
        caller = self._known.get(digest)
        if caller is None:
            if len(self._known) >= MAX_CALLERS:
                self._known.clear()
            if key.company_id is None:
                caller = Caller(f"operator:{digest.hex()}", OPERATOR_THREADS, OPERATOR_WAITS)
            else:
                caller = Caller(f"company:{key.company_id}", COMPANY_THREADS, COMPANY_WAITS)
            self._known[digest] = caller
        return caller
