"""Reads heartbeats: the small files that processes write every HEARTBEAT_INTERVAL (`services.runtime.heartbeat`)."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisnesctl.host.process_times import boottime
from bisnesctl.settings import Settings


@dataclass(frozen=True)
class Heartbeat:
    """The last heartbeat of a process."""

    pid: int
    process: str
    status: str
    reason: str
    #: Seconds since it was written; infinite if the machine was booted since.
    age_seconds: float
    #: Seconds that all its threads together had waited for a processor by then.
    waited: float
    #: Why the process is alive but serves nobody; empty if it serves.
    stuck: str
    #: All that the file has: uptimeSeconds, memoryMb, cpuPercent, processed, sent, received, errors, …
    values: Mapping[str, Any]


def current(settings: Settings, instance: str) -> Heartbeat | None:
    """The heartbeat of an instance of this machine; None if it gave none since the machine was booted."""
    beat = read(settings.heartbeat_dir / f"{instance}.json")
    return None if beat is None or beat.age_seconds == math.inf else beat


def read(path: Path) -> Heartbeat | None:
    """The heartbeat in a file; None if there is no file, or it is damaged."""
    try:
        found = json.loads(path.read_bytes())
        age = boottime() - float(found["beat_boottime"])
        return Heartbeat(
            pid=int(found["pid"]),
            process=str(found["process"]),
            status=str(found["status"]),
            reason=str(found.get("reason") or ""),
            age_seconds=age if age >= 0 else math.inf,
            waited=float(found.get("waited") or 0.0),
            stuck=str(found.get("stuck") or ""),
            values=found,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
