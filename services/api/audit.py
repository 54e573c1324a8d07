"""Records in the audit trail who changed what over HTTP: every request that is no GET, except to send messages.

A resource is recorded unless it says `recorded=False` (see `services.api.auth.resource`), so none is forgotten. The
record is a file until the guard delivers it, and no request waits for the database because of it. A
program of this deployment that records the action itself says so (see `bisnesctl.audit.recorded_calls`).
"""

import time
from typing import Any

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from bisnesctl.audit import masking, recorded_calls, trail
from bisnesctl.audit.record import AuditRecord, Outcome, Source
from bisnesctl.settings import Settings
from services.api.auth import is_recorded
from services.http_server.refusal import Refusal

_READING = ("GET", "HEAD", "OPTIONS")
#: The status of a request beyond a limit, of which nothing was done.
_RATE_LIMITED = 429

log = structlog.get_logger()


def attach(app: Flask, settings: Settings) -> None:
    """Record the requests of the application that change something, with their outcomes."""

    @app.before_request
    def begin() -> None:
        g.began = time.time()

    @app.after_request
    def record(response: Response) -> Response:
        if (
            request.method not in _READING
            and "key" in g
            and response.status_code != _RATE_LIMITED
            and is_recorded(app.blueprints.get(request.blueprint or ""))
            and not recorded_calls.is_recorded(settings, request.headers.get(recorded_calls.HEADER, ""))
        ):
            _add(settings, response)
        return response


def _add(settings: Settings, response: Response) -> None:
    """Record the request; a record that cannot be made changes no answer."""
    try:
        trail.add_or_log(settings.home, _record(response))
    except Exception:
        log.exception("audit.record_not_made", path=request.path)


def _record(response: Response) -> AuditRecord:
    body = _body()
    began = AuditRecord(
        *(Source.API, _actor(), request.remote_addr or "", f"{request.method} {request.path}"),
        arguments=masking.masked({**request.args.to_dict(), **body}),
        company=_company(body),
        at=g.began,
    )
    if response.status_code < 400:
        return began.ended(Outcome.OK)
    problem = response.get_json(silent=True) or {}
    return began.ended(
        Outcome.FAILED, str(problem.get("code", response.status_code)), masking.text(str(problem.get("error", "")))
    )


def _actor() -> str:
    name = f"key {g.key.prefix}…"
    return f"{name} ({g.key.label})" if g.key.label else name


def _company(body: dict[str, Any]) -> str | None:
    for found in ((request.view_args or {}).get("companyId"), g.key.company_id, body.get("company")):
        if isinstance(found, str):
            return found
    return None


def _body() -> dict[str, Any]:
    try:
        body = request.get_json() if request.get_data() else {}
    except Refusal:
        return {"body": "no JSON"}
    except HTTPException as error:  # too large, or not read to its end
        return {"body": error.name}
    return body if isinstance(body, dict) else {"body": body}
