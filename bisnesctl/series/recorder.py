"""Stores what was measured in `process_metrics`, once a minute.

The queues and latencies are those of all machines, so one of several stores them. Instances and
their failures are those of this machine.
"""

import json
import math
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from bisnesctl.database.kept_connection import KeptConnection
from bisnesctl.database.postgres import Connection, query
from bisnesctl.database.process_events import LoggedCondition
from bisnesctl.series import metrics
from bisnesctl.signals import processes, queues
from bisnesctl.signals.measurement import DATABASE_TIMEOUT_SECONDS, Measurement

#: Seconds between two rows of a figure.
INTERVAL_SECONDS = 60.0
#: Messages whose latencies are looked at, the newest ones of a minute, at most.
MAX_MESSAGES = 1000

_INSERT = """
INSERT INTO process_metrics (process_name, metric_name, metric_value, metric_type, metadata)
SELECT left(process, 20), left(metric, 100), value, type, metadata::jsonb
FROM unnest(%(processes)s::text[], %(metrics)s::text[], %(values)s::numeric[], %(types)s::text[], %(metadata)s::text[])
    AS row (process, metric, value, type, metadata)"""
_IS_STORED = f"""
SELECT EXISTS (SELECT FROM process_metrics WHERE process_name = 'meta' AND metric_name = '{metrics.QUEUE_WAITING}'
    AND timestamp > now() - interval '{INTERVAL_SECONDS * 0.75} seconds' AND timestamp <= now())"""
# The messages of the minute before the last one, so that most are answered. One that still waits counts with its age.
_LATENCIES = f"""
SELECT channel, count(*)::int, percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY milliseconds)
FROM (
    SELECT c.process_name AS channel, 1000 * GREATEST(extract(epoch FROM COALESCE(s.at,
        CASE WHEN o.status >= 'unknown' THEN o.updated_at ELSE now() END) - o.accepted_at), 0)::float AS milliseconds
    FROM (
        SELECT * FROM outbox
        WHERE message_id >= %(first)s::uuid AND message_id < %(last)s::uuid AND kind <> 'read' AND NOT is_probe
        ORDER BY message_id DESC LIMIT {MAX_MESSAGES}
    ) o JOIN phone_configs c ON c.id = o.bot_id
    LEFT JOIN LATERAL (
        SELECT (step ->> 'at')::timestamptz AS at FROM jsonb_array_elements(o.timeline) step
        WHERE step ->> 'status' = 'sent' LIMIT 1) s ON true
    WHERE o.status <> 'failed'
) timed GROUP BY channel"""


@dataclass(frozen=True)
class _Row:
    process: str
    metric: str
    value: float
    type: str = "gauge"
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Recorder:
    """Stores the figures of one deployment."""

    def __init__(self, kept: KeptConnection) -> None:
        self._kept = kept
        self._due = -math.inf  # on the monotonic clock
        self._failures: dict[tuple[str, str, str], float] | None = None  # by process, instance and code
        self._paused = LoggedCondition("series.recording_paused", "series.recording_resumed")

    def record(self, found: Measurement) -> None:
        """Stores what was measured if a minute is over and PostgreSQL answered. Never raises psycopg2.Error."""
        if time.monotonic() < self._due or not found.readings.of(queues.OUTBOX_WAITING.name):
            return
        self._due = time.monotonic() + INTERVAL_SECONDS
        dsn = found.deployment.settings.database_dsn
        try:
            with self._kept.connected(dsn, DATABASE_TIMEOUT_SECONDS) as connection:
                if not query(connection, _IS_STORED)[0][0]:
                    _store(connection, [*_queues(found), *_latencies(connection, found.at)])
                _store(connection, [*_instances(found), *self._new_failures(found)])
        except psycopg2.Error as error:
            self._paused.begin(str(error).strip())
        else:
            self._paused.end()

    def _new_failures(self, found: Measurement) -> Iterator[_Row]:
        """The failures since the last time. A counter that is smaller than it was has begun again."""
        host = socket.gethostname()
        counts = {
            (labels["process"], labels["name"], labels["code"]): each.value
            for each in found.readings.of(processes.FAILURES.name)
            if (labels := each.labels)["host"] == host
        }
        before, self._failures = self._failures, counts
        if before is None:
            return
        for (process, name, code), count in counts.items():
            known = before.get((process, name, code), 0.0)
            if new := count - known if count >= known else count:
                yield _Row(process, metrics.FAILURES, new, "count", {"code": code, "instance": name, "host": host})


def _queues(found: Measurement) -> Iterator[_Row]:
    waiting: dict[str, float] = {}
    for each in found.readings.of(queues.OUTBOX_WAITING.name):
        waiting[each.labels["process"]] = waiting.get(each.labels["process"], 0.0) + each.value
    for process, number in waiting.items():
        yield _Row(process, metrics.QUEUE_WAITING, number)
    for each in found.readings.of(queues.OUTBOX_OLDEST.name):
        yield _Row(each.labels["process"], metrics.QUEUE_OLDEST, round(each.value, 3))


def _latencies(connection: Connection, now: float) -> Iterator[_Row]:
    bounds = {"first": _first_id(now - 2 * INTERVAL_SECONDS), "last": _first_id(now - INTERVAL_SECONDS)}
    for channel, count, (middle, high) in query(connection, _LATENCIES, bounds):
        for metric, value in (metrics.LATENCY_P50, middle), (metrics.LATENCY_P99, high):
            yield _Row(channel, metric, round(value, 1), metadata={"messages": count})


def _first_id(at: float) -> str:
    """The smallest id of a message that was accepted then or later: ids are UUIDs of version 7."""
    return f"{max(int(at * 1000), 0):012x}" + "0" * 20


def _instances(found: Measurement) -> Iterator[_Row]:
    host = socket.gethostname()
    for signal, name_of, factor in (
        (processes.MEMORY_USED, metrics.memory_of, 2**-20), (processes.CPU_USED, metrics.cpu_of, 100.0),
    ):  # fmt: skip
        for each in found.readings.of(signal.name):
            if each.labels["host"] == host:
                value = round(each.value * factor, 1)
                yield _Row(each.labels["process"], name_of(each.labels["name"]), value, metadata={"host": host})


def _store(connection: Connection, rows: list[_Row]) -> None:
    stored = [each for each in rows if math.isfinite(each.value)]
    values = {
        "processes": [each.process for each in stored], "metrics": [each.metric for each in stored],
        "values": [each.value for each in stored], "types": [each.type for each in stored],
        "metadata": [json.dumps(each.metadata) for each in stored],
    }  # fmt: skip
    if stored:
        query(connection, _INSERT, values)
