"""Health over HTTP, for load balancers, monitoring and the old front-ends.

No key is asked for, and so no secret is told.
"""

import os
import time
from typing import Any

import structlog
from flask import Flask, current_app

from services.api.auth import Auth, resource
from services.api.context import Context
from services.api.openapi import problems
from services.api.schemas.base import Alive, AllHealth, Metrics, ProcessPath
from services.database import error_reasons
from services.database.bounded_query import BoundedQuery
from services.database.connection import DatabaseError, DatabaseUnavailable
from services.database.write_test import WriteTest
from services.http_server.errors import ApiError, database_unavailable
from services.runtime import process_overview
from services.runtime.process_overview import ProgramState

#: Seconds after which the database counts as away, for an answer within a second.
PATIENCE = 0.7
_EXTENSION = "bisnes.health"

log = structlog.get_logger()

health = resource("health", "Whether the processes live and work.", Auth.NONE)


class Observer:
    """Asks about the health of all processes, and never waits long for the database."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = time.monotonic()
        self._overview = BoundedQuery(self._ask_overview)
        self._ready = BoundedQuery(self._ask_ready)
        self._write_test = WriteTest()

    @property
    def uptime(self) -> int:
        """Whole seconds."""
        return int(time.monotonic() - self._started)

    def processes(self) -> tuple[list[ProgramState], str]:
        """All processes, and where that is from: database, or local where it does not answer in time."""
        try:
            return self._overview.within(PATIENCE), "database"
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("health is told from the local files", reason=str(error).strip())
            return process_overview.in_files(self._context.settings.heartbeat_dir), "local"

    def check_ready(self) -> None:
        """Raise `DatabaseUnavailable` or `DatabaseError` unless messages can be accepted."""
        self._ready.within(PATIENCE)

    def _ask_overview(self) -> list[ProgramState]:
        with self._context.database.connection() as connection:
            return process_overview.in_database(connection)

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


@health.get("/health", summary="The process lives", responses={200: Alive})
@health.get("/api/health", summary="The process lives (the old address)", responses={200: Alive})
@health.get("/health/live", summary="The process lives (for probes)", responses={200: Alive})
def live() -> dict[str, Any]:
    """Says so as long as the process answers at all, whatever the database does."""
    return _alive("ok")


@health.get(
    "/health/ready",
    summary="The process can work",
    description="Whether the database can be reached, is migrated and can store, so that messages can be accepted.",
    responses={200: Alive, **problems("database_unavailable")},
)
def ready() -> dict[str, Any]:
    """Ready, or a 503 with the reason."""
    try:
        _observer().check_ready()
    except DatabaseUnavailable as error:
        log.warning("not ready", reason=str(error))
        reason = error_reasons.why(error)
        words = (
            f"PostgreSQL cannot store: {reason}" if reason else "PostgreSQL cannot be reached; the log has the reason"
        )
        raise database_unavailable(words) from None
    except DatabaseError as error:
        log.warning("not ready", reason=str(error).strip())
        raise database_unavailable("the database is not migrated; run bisnesctl migrate") from None
    return _alive("ready")


@health.get(
    "/health/all",
    summary="All processes",
    description=(
        "How every process is, its instances together. A process without a sign of life for 30 seconds is "
        "degraded, for 60 seconds down. Answers within a second even when the database is away: then from "
        "this machine's own files."
    ),
    responses={200: AllHealth},
)
def all_processes() -> dict[str, Any]:
    """All processes with their status."""
    found, source = _observer().processes()
    return {"success": True, "processes": [_shown(process) for process in found], "source": source}


@health.get(
    "/metrics/<process>",
    summary="One process in figures",
    responses={200: Metrics, **problems("not_found")},
)
def metrics(path: ProcessPath) -> dict[str, Any]:
    """What a process has done since it started."""
    found, source = _observer().processes()
    for process in found:
        if process.name == path.process:
            figures = {"cpu": process.cpu, "messagesProcessed": process.processed, "errors": process.errors}
            return {"success": True, **_shown(process), **figures, "source": source}
    names = ", ".join(process.name for process in found)
    raise ApiError(404, "not_found", f"there is no process {path.process}; there are: {names}")


def _shown(process: ProgramState) -> dict[str, Any]:
    return {
        "processName": process.name,
        "status": process.status,
        "uptime": process.uptime,
        "memory": round(process.memory, 1),
        "activeBots": process.active_bots,
    }
