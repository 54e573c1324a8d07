"""Health over HTTP, for load balancers, monitoring and the old front-ends. It needs no key and shows no secret."""

import os
import time
from typing import Any

import structlog
from flask import Flask, Response, current_app, request

from services.api.auth import Auth, resource
from services.api.context import Context
from services.api.openapi import problems
from services.api.schemas.base import Alive, AllHealth, Metrics, ProcessPath
from services.database import error_reasons
from services.database.bounded_query import BoundedQuery
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.database.write_test import WriteTest
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError, database_unavailable
from services.runtime.process_overview import DATABASE_TIMEOUT_SECONDS, ProcessOverview
from services.runtime.signal_exposition import SignalExposition

_EXTENSION = "bisnes.health"

log = structlog.get_logger()

health = resource("health", "Whether the processes run and work.", Auth.NONE)


class Observer:
    """Observes the health of all programs, and never waits long for the database."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = time.monotonic()
        self.overview = ProcessOverview(context.settings, context.database)
        self.signals = SignalExposition(context.settings)
        self._ready = BoundedQuery(self._ask_ready)
        self._write_test = WriteTest()

    @property
    def uptime(self) -> int:
        """Whole seconds."""
        return int(time.monotonic() - self._started)

    def check_ready(self) -> None:
        """Raise `DatabaseUnavailable` or `DatabaseError` if messages cannot be accepted."""
        self._ready.within(DATABASE_TIMEOUT_SECONDS)

    def _ask_ready(self) -> None:
        with self._context.database.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT FROM outbox LIMIT 1")
            self._write_test.check(connection)


def attach(app: Flask, observer: Observer) -> None:
    """Answer the application's health routes with this observer."""
    app.extensions[_EXTENSION] = observer


def _observer() -> Observer:
    found: Observer = current_app.extensions[_EXTENSION]
    return found


def _alive(status: str) -> dict[str, Any]:
    process = os.environ.get("BISNES_PROCESS", "api")
    return {"success": True, "status": status, "process": process, "uptime": _observer().uptime}


@health.get("/health", summary="The process runs", responses={200: Alive})
@health.get("/api/health", summary="The process runs (the old address)", responses={200: Alive})
@health.get("/health/live", summary="The process runs (for probes)", responses={200: Alive})
def live() -> dict[str, Any]:
    """Answers as long as the process runs, regardless of the database."""
    return _alive("ok")


@health.get(
    "/health/ready",
    summary="The process can work",
    description="Whether the database is available, migrated and writable, so that messages can be accepted.",
    responses={200: Alive, **problems("database_unavailable")},
)
def ready() -> dict[str, Any]:
    """Ready, or a 503 with the reason."""
    try:
        _observer().check_ready()
    except DatabaseUnavailable as error:
        log.warning("api.not_ready", reason=str(error))
        reason = error_reasons.why(error)
        message = f"PostgreSQL cannot store: {reason}" if reason else "PostgreSQL cannot be reached; see the log"
        raise database_unavailable(message) from None
    except DatabaseError as error:
        log.warning("api.not_ready", reason=str(error).strip())
        if reason := error_reasons.why(error):
            raise database_unavailable(f"PostgreSQL cannot store: {reason}") from None
        raise database_unavailable("the database is not migrated; run bisnesctl migrate") from None
    return _alive("ready")


@health.get(
    "/health/all",
    summary="All processes",
    description=(
        "The health of every program, its instances together. A program without a heartbeat for 30 seconds is "
        "degraded, for 60 seconds down. The answer is sent within a second even if the database is unavailable; it is "
        "then taken from this machine's heartbeat files."
    ),
    responses={200: AllHealth},
)
def all_processes() -> dict[str, Any]:
    """List all programs with their status."""
    return _observer().overview.all()


@health.get(
    "/metrics",
    summary="All signals for Prometheus",
    description=(
        "The signals of the whole deployment in the text form of Prometheus, as they were measured last, usually "
        "within half a minute; `bisnes_measurement_age_seconds` says when. Any instance gives the same answer, also "
        "while the database is unavailable. docs/reference/metrics.md lists the signals."
    ),
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def signals() -> Response:
    """Show all signals."""
    text, content_type = _observer().signals.answer(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


@health.get(
    "/metrics/<process>",
    summary="Figures of one program",
    description=(
        "The counters survive restarts; from heartbeat files (`source` is `local`) they are those since the start. "
        "The same figures are stored in `process_metrics` once a minute."
    ),
    responses={200: Metrics, **problems("not_found")},
)
def metrics(path: ProcessPath) -> dict[str, Any]:
    """Show the figures of a program."""
    try:
        return _observer().overview.metrics(path.process)
    except LookupError as error:
        raise ApiError(ErrorCode.NOT_FOUND, str(error)) from None
