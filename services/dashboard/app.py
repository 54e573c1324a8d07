"""The application: its pages, the headers of every answer, and what people see of errors."""

import time
from typing import Any

import structlog
from flask import g, redirect, request, url_for
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.wrappers import Response as AnyResponse

from bisnesctl import errors
from bisnesctl.errors import BisnesError
from bisnesctl.people.store import PeopleStore
from bisnesctl.settings import Settings
from services.dashboard import access, findings, navigation, rendering, texts, unavailability
from services.dashboard.access import NotSignedIn
from services.dashboard.command_runs import CommandRuns
from services.dashboard.context import EXTENSION, Context, context
from services.dashboard.pages import (
    account,
    actions,
    alerts,
    answers,
    audit,
    chats,
    commands,
    dead_letters,
    events,
    health,
    keys,
    messages,
    numbers,
    overview,
    people,
    preferences,
    processes,
    rollout,
    sandbox,
    settings,
    sign_in,
    templates,
    webhooks,
)
from services.dashboard.sources import Sources
from services.database.connection import Database, DatabaseError, DatabaseUnavailable
from services.http_server import request_ids
from services.http_server.errors import unknown_host
from services.http_server.host_names import HostNames
from services.http_server.refusal import Refusal
from services.http_server.routing import ExactAddresses
from services.runtime.heartbeat import Counters

#: The program.
NAME = "dashboard"
#: The process of the embedded PostgreSQL.
SERVER = "postgres"
#: The beginning of the address of every page.
PREFIX = "/ui"
#: Bytes of a form, at most. Files that are sent to chats are larger.
MAX_FORM = 1 << 20
#: Seconds for which browsers keep a file whose address changes with its content.
STATIC_SECONDS = 365 * 86400
#: Blueprints of the pages.
PAGES = (
    sign_in, account, preferences, overview, processes, numbers, chats, answers, templates, messages, dead_letters,
    webhooks, alerts, events, rollout, sandbox, actions, commands, audit, keys, settings, people,
)  # fmt: skip

_POLICY = "; ".join(
    [
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "media-src 'self'",
        "connect-src 'self'", "font-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    ]
)  # fmt: skip
#: Headers of every answer.
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

log = structlog.get_logger()


class Dashboard(ExactAddresses):
    """The WSGI application."""

    def __init__(self, own: Settings, database: Database, people: PeopleStore) -> None:
        """`own`: the settings of the start. The first request connects."""
        super().__init__(__name__, static_url_path=f"{PREFIX}/static")
        self.config |= {"MAX_CONTENT_LENGTH": MAX_FORM, "SEND_FILE_MAX_AGE_DEFAULT": STATIC_SECONDS}
        self.counters = Counters(pool=database.use)  # reported by the heartbeat of the process
        self.extensions[EXTENSION] = Context(own, Sources(database, people), CommandRuns(own))
        self._names = HostNames([own.public_url or ""])
        access.open_to_all(self.view_functions["static"])
        self.before_request(self._begin)
        access.attach(self, people)
        rendering.attach(self)
        self.register_blueprint(health.pages)
        for module in PAGES:
            self.register_blueprint(module.pages, url_prefix=PREFIX)
        self.after_request(self._finish)
        self._answer_errors()
        access.check_routes(self)

    def _begin(self) -> None:
        g.began, g.is_live = time.monotonic(), bool(request.environ.get(rendering.LIVE))
        if not self._names.include(request.host):
            raise unknown_host(request.host)
        if any("\0" in each for each in (request.path, *request.args.values())):  # PostgreSQL knows no such text
            raise BadRequest

    def _finish(self, response: AnyResponse) -> AnyResponse:
        response.headers.extend(HEADERS)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        self.counters.processed += 1
        if response.status_code >= 500:
            self.counters.fail(f"{request.method} {request.path} was answered with {response.status_code}")
        return response

    def _answer_errors(self) -> None:
        self.register_error_handler(NotSignedIn, _sign_in)
        self.register_error_handler(HTTPException, _http)
        self.register_error_handler(Refusal, lambda error: _error(error.status, str(error)))
        self.register_error_handler(DatabaseUnavailable, _database)
        self.register_error_handler(errors.DatabaseUnavailable, _database)
        self.register_error_handler(DatabaseError, _database)
        self.register_error_handler(BisnesError, lambda error: _error(503, str(error)))
        self.register_error_handler(Exception, _internal)


def _sign_in(_: NotSignedIn) -> Any:
    if request.environ.get(rendering.LIVE) or request.method != "GET":
        return _error(401, texts.text("error.signed_out"))
    return redirect(url_for("sign_in.show", next=request.full_path.rstrip("?")))


def _http(error: HTTPException) -> Any:
    status = error.code or 500
    if status >= 500:
        return _internal(error)
    known = {403: "error.forbidden", 404: "error.not_found", 405: "error.not_allowed", 413: "error.too_large"}
    own = error.description if status == 403 and error.description != type(error).description else ""
    return _error(status, texts.text(known.get(status, "error.invalid")), own or "")


def _database(error: Exception) -> Any:
    found = unavailability.explain(error, context().settings, _of_server())
    log.warning("database.unavailable", reason=found.reason)
    return _error(503, texts.text(f"error.{found.kind}"), found.reason, found.command)


def _of_server() -> str:
    """The trouble of the process of PostgreSQL, such as that an operator stopped it; empty if it has none."""
    try:
        rows = findings.overview().processes
    except BisnesError:
        return ""
    return next((f"{row.name} {row.status}: {row.reason}" for row in rows if row.name == SERVER and row.reason), "")


def _internal(error: Exception) -> Any:
    log.error("request.failed", exc_info=error)
    message = texts.text("error.internal", request=request.environ.get(request_ids.KEY, ""))
    return _error(500, message, "", f"bisnesctl logs {NAME}")


def _error(status: int, message: str, reason: str = "", command: str = "") -> Any:
    title = navigation.title() or str(status)
    return rendering.page("error.html", status, title=title, message=message, reason=reason, command=command)
