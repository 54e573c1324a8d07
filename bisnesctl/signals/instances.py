"""The figures of instances as their heartbeats report them: in files of this machine, in the database for others."""

import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bisnesctl.database.postgres import Connection, query
from bisnesctl.health import heartbeats
from bisnesctl.settings import Settings

#: Instances of other machines that are read, at most.
MAX_INSTANCES = 500

_ELSEWHERE = f"""
SELECT process_name, instance, host, GREATEST(extract(epoch FROM now() - last_heartbeat), 0)::float, figures ||
    jsonb_build_object('uptimeSeconds', extract(epoch FROM last_heartbeat - started_at), 'memoryMb', memory_usage_mb,
        'cpuPercent', cpu_usage_percent, 'connections', active_connections, 'processed', messages_processed,
        'sent', messages_sent, 'received', messages_received, 'errors', error_count, 'responses', responses,
        'responseMs', response_ms, 'status', status)
FROM process_instances WHERE host <> %s AND status <> 'stopped' ORDER BY last_heartbeat DESC LIMIT {MAX_INSTANCES}"""


@dataclass(frozen=True)
class Figures:
    """The last heartbeat of one instance."""

    process: str
    name: str
    host: str
    #: Seconds since the heartbeat.
    age: float
    #: As in the file: uptimeSeconds, memoryMb, cpuPercent, processed, sent, received, errors, …
    values: Mapping[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its signals."""
        return {"process": self.process, "name": self.name, "host": self.host}

    def number(self, name: str) -> float | None:
        """One of its figures; None if it does not report it."""
        found = self.values.get(name)
        return None if found is None else float(found)


def names_in_files(settings: Settings) -> list[str]:
    """The instances that have a heartbeat file, whether they still run or not."""
    return sorted(each.stem for each in settings.heartbeat_dir.glob("[!.]*.json"))


def in_files(settings: Settings, names: Iterable[str]) -> Iterator[Figures]:
    """The instances of this machine with these names, as far as they have a heartbeat."""
    host = socket.gethostname()
    for name in names:
        if beat := heartbeats.current(settings, name):
            yield Figures(beat.process, name, host, beat.age_seconds, beat.values)


def on_other_machines(connection: Connection) -> list[Figures]:
    """The instances of other machines, those that have been silent for up to a day included."""
    return [Figures(*row) for row in query(connection, _ELSEWHERE, (socket.gethostname(),))]
