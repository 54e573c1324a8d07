"""The state of the programs, for the HTTP API: from the database, or from the heartbeat files."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from bisnesctl.health import heartbeats
from bisnesctl.health.heartbeats import Heartbeat
from bisnesctl.settings import Settings
from services.database.bounded_query import BoundedQuery
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable, query

#: Seconds after which the database counts as unavailable, so that an answer is sent within a second.
DATABASE_TIMEOUT_SECONDS = 0.7
#: Seconds without a beat after which a program is degraded; as in v_process_health_overview.
DEGRADED_AFTER_SECONDS = 30.0
#: Seconds without a beat after which a program is down; as in v_process_health_overview.
DOWN_AFTER_SECONDS = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ProgramState:
    """All instances of a program together."""

    name: str
    status: str  # healthy, degraded, stopped or down
    uptime: int  # seconds, of the oldest instance
    memory: float  # MB, of all instances
    cpu: float  # percent of one processor, of all instances
    active_bots: int
    connections: int  # open now, of all instances
    processed: int
    sent: int
    received: int
    errors: int
    response_ms: float | None  # average of the last minute; None: there was no response


_OVERVIEW = """
SELECT h.process_name,
       CASE WHEN status = 'stopped' OR status = 'degraded' AND computed_status = 'healthy' THEN status
            ELSE computed_status END,
       COALESCE(uptime_seconds, 0)::int, COALESCE(memory_usage_mb, 0)::float,
       COALESCE(cpu_usage_percent, 0)::float, COALESCE(active_bots, 0)::int, COALESCE(active_connections, 0)::int,
       COALESCE(t.processed, messages_processed, 0)::bigint, COALESCE(t.sent, 0)::bigint,
       COALESCE(t.received, 0)::bigint, COALESCE(t.errors, error_count, 0)::bigint,
       (SELECT (sum(response_ms) / NULLIF(sum(responses), 0))::float FROM process_instances i
        WHERE i.process_name = h.process_name AND i.last_heartbeat > now() - interval '60 seconds')
FROM v_process_health_overview h LEFT JOIN process_totals t USING (process_name) ORDER BY process_name"""


def in_database(connection: Connection) -> list[ProgramState]:
    """Every program of every machine, by name."""
    return [ProgramState(*row) for row in query(connection, _OVERVIEW)]


def in_files(folder: Path) -> list[ProgramState]:
    """The programs of this machine, by name, from `<instance>.json` in the folder."""
    beats: defaultdict[str, list[Heartbeat]] = defaultdict(list)
    for file in folder.glob("[!.]*.json"):
        if beat := heartbeats.read(file):
            beats[beat.process].append(beat)
        else:
            log.warning("heartbeat.not_readable", file=str(file))
    return [_together(name, beats[name]) for name in sorted(beats)]


def _together(name: str, beats: list[Heartbeat]) -> ProgramState:
    fresh = [beat for beat in beats if beat.age_seconds < DOWN_AFTER_SECONDS]
    if not fresh:
        return ProgramState(name, "down", 0, 0.0, 0.0, 0, 0, 0, 0, 0, 0, None)

    def every(figure: str) -> list[Any]:  # the heartbeat of `alerts` has few
        return [found for beat in fresh if (found := beat.values.get(figure)) is not None]

    responses = sum(every("responses"))
    late = min(beat.age_seconds for beat in fresh) >= DEGRADED_AFTER_SECONDS
    return ProgramState(
        name,
        "degraded" if late or "degraded" in every("status") else "healthy",
        int(max(every("uptimeSeconds"), default=0)),
        sum(every("memoryMb")),
        sum(every("cpuPercent")),
        max(every("activeBots"), default=0),
        sum(every("connections")),
        sum(every("processed")),
        sum(every("sent")),
        sum(every("received")),
        sum(every("errors")),
        sum(every("responseMs")) / responses if responses else None,
    )


def shown(process: ProgramState) -> dict[str, Any]:
    """A program in the answer of /health/all."""
    return {
        "processName": process.name,
        "status": process.status,
        "uptime": process.uptime,
        "memory": round(process.memory, 1),
        "activeBots": process.active_bots,
    }


def figures(process: ProgramState) -> dict[str, Any]:
    """A program in the answer of /metrics/<process>."""
    return shown(process) | {
        "cpu": process.cpu,
        "activeConnections": process.connections,
        "messagesProcessed": process.processed,
        "messagesSent": process.sent,
        "messagesReceived": process.received,
        "errors": process.errors,
        "averageResponseTime": None if process.response_ms is None else round(process.response_ms, 1),
    }


class ProcessOverview:
    """The state of all programs; it never waits long for the database."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._overview = BoundedQuery(self._ask)

    def processes(self) -> tuple[list[ProgramState], str]:
        """All programs, and the source: `database`, or `local` if the database does not answer in time."""
        try:
            return self._overview.within(DATABASE_TIMEOUT_SECONDS), "database"
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("health.read_from_files", reason=str(error).strip())
            return in_files(self._settings.heartbeat_dir), "local"

    def _ask(self) -> list[ProgramState]:
        with self._database.connection() as connection:
            return in_database(connection)

    def all(self) -> dict[str, Any]:
        """The answer of /health/all."""
        found, source = self.processes()
        return {"success": True, "processes": [shown(each) for each in found], "source": source}

    def metrics(self, name: str) -> dict[str, Any]:
        """The answer of /metrics/<process>. Raises `LookupError` with the message for an unknown program."""
        found, source = self.processes()
        for each in found:
            if each.name == name:
                return {"success": True, **figures(each), "source": source}
        raise LookupError(f"there is no process {name}; there are: {', '.join(each.name for each in found)}")
