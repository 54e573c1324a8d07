"""The state of the programs, for the HTTP API: from the database, or from the heartbeat files."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from services.database.connection import Connection, query

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
    processed: int
    errors: int


_OVERVIEW = """
SELECT process_name,
       CASE WHEN status = 'stopped' OR status = 'degraded' AND computed_status = 'healthy' THEN status
            ELSE computed_status END,
       COALESCE(uptime_seconds, 0)::int, COALESCE(memory_usage_mb, 0)::float,
       COALESCE(cpu_usage_percent, 0)::float, COALESCE(active_bots, 0)::int,
       COALESCE(messages_processed, 0)::bigint, COALESCE(error_count, 0)::int
FROM v_process_health_overview ORDER BY process_name"""


def in_database(connection: Connection) -> list[ProgramState]:
    """Every program of every machine, by name."""
    return [ProgramState(*row) for row in query(connection, _OVERVIEW)]


def in_files(folder: Path) -> list[ProgramState]:
    """The programs of this machine, by name, from `<instance>.json` in the folder."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    beats: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for beat in _read(folder):
        age = now - beat["beat_boottime"]
        beats[beat["process"]].append(beat | {"age": age if age >= 0 else DOWN_AFTER_SECONDS})  # of an earlier boot
    return [_together(name, beats[name]) for name in sorted(beats)]


def _read(folder: Path) -> Iterable[dict[str, Any]]:
    for file in folder.glob("[!.]*.json"):
        try:
            yield orjson.loads(file.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            log.warning("heartbeat.not_readable", file=str(file), reason=str(error))


def _together(name: str, beats: list[dict[str, Any]]) -> ProgramState:
    fresh = [beat for beat in beats if beat["age"] < DOWN_AFTER_SECONDS]
    if not fresh:
        return ProgramState(name, "down", 0, 0.0, 0.0, 0, 0, 0)
    late = min(beat["age"] for beat in fresh) >= DEGRADED_AFTER_SECONDS
    return ProgramState(
        name,
        "degraded" if late or any(beat["status"] == "degraded" for beat in fresh) else "healthy",
        int(max(beat["uptimeSeconds"] for beat in fresh)),
        sum(beat["memoryMb"] for beat in fresh),
        sum(beat["cpuPercent"] for beat in fresh),
        max(beat["activeBots"] for beat in fresh),
        sum(beat["processed"] for beat in fresh),
        sum(beat["errors"] for beat in fresh),
    )
