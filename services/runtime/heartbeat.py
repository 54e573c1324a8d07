"""Heartbeats: each process writes a small file and a row in the database, every HEARTBEAT_INTERVAL.

Local probes read the file, which is written even if the database is unavailable. Its age is measured by CLOCK_BOOTTIME,
which no change of the wall clock affects.
"""

import contextlib
import math
import secrets
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
import structlog

from bisnesctl.database import deployments
from bisnesctl.host import disk, process_stat, process_times
from bisnesctl.processes import started_settings
from bisnesctl.settings import Settings
from services.database import error_reasons
from services.database.bounded_query import BoundedQuery
from services.database.connection import (
    Connection,
    Database,
    DatabaseError,
    DatabaseUnavailable,
    Statement,
    query,
    run,
)
from services.database.pool import PoolUse

#: Seconds between two measurements in process_metrics.
METRICS_INTERVAL_SECONDS = 60
#: Seconds for which response times are averaged.
RESPONSES_SECONDS = 60.0
#: Seconds for the row of a beat; a frozen database must not stop the file.
DATABASE_TIMEOUT_SECONDS = 2.0

log = structlog.get_logger()


@dataclass(slots=True)
class Counters:
    """The counters of a process since its start; the heartbeat reports them."""

    processed: int = 0  # messages accepted by the API or sent by a worker, webhooks stored by a receiver
    sent: int = 0  # messages that were accepted by the API, or left through a channel
    received: int = 0  # messages that people sent
    errors: int = 0
    last_error: str | None = None
    active_bots: int = 0
    connections: int = 0  # open now: of a worker to its provider, of a session to WhatsApp
    clients: Callable[[], int] = lambda: 0  # connections of clients that are open now
    failures: Counter[str] = field(default_factory=Counter)  # messages that failed or are unknown, by the error's code
    pool: Callable[[], PoolUse] | None = None  # the use of its pool of connections to PostgreSQL
    responses: int = 0
    response_seconds: float = 0.0  # of all responses together
    degraded: str | None = None  # why the process does not work as it should
    refresh: Callable[[], None] = lambda: None  # brings the counters up to date before they are reported

    def fail(self, error: str) -> None:
        """Count an error."""
        self.errors += 1
        self.last_error = error


class Watchdog(Protocol):
    """Watches whether the process serves its callers."""

    #: The reason why it does not; None if it does.
    fault: str | None


# Each instance counts from its start. The difference to its last beat is added to the totals of its process, once
# even if a beat is repeated. The process is what its fresh instances are together; a statement does not see its own
# changes, hence the union. The row of the totals is locked, so one instance in a minute writes the metrics.
_MINE = """
WITH before AS (SELECT * FROM process_instances WHERE process_name = %(process)s AND host = %(host)s
    AND instance = %(instance)s
), mine AS (
    INSERT INTO process_instances AS i (process_name, host, instance, pid, status, started_at, run,
        memory_usage_mb, cpu_usage_percent, active_connections, messages_processed, messages_sent, messages_received,
        error_count, last_error, responses, response_ms, deployment, figures)
    VALUES (%(process)s, %(host)s, %(instance)s, %(pid)s, %(status)s,
        now() - %(uptimeSeconds)s * interval '1 second', %(run)s, %(memoryMb)s, %(cpuPercent)s,
        %(connections)s, %(processed)s, %(sent)s, %(received)s, %(errors)s, %(lastError)s,
        %(responses)s, %(responseMs)s, %(deployment)s, %(figures)s::jsonb)
    ON CONFLICT (process_name, host, instance) DO UPDATE SET
        pid = excluded.pid, status = excluded.status, started_at = excluded.started_at, run = excluded.run,
        last_heartbeat = now(), memory_usage_mb = excluded.memory_usage_mb,
        cpu_usage_percent = excluded.cpu_usage_percent, active_connections = excluded.active_connections,
        messages_processed = excluded.messages_processed, messages_sent = excluded.messages_sent,
        messages_received = excluded.messages_received, error_count = excluded.error_count,
        last_error = excluded.last_error, responses = excluded.responses, response_ms = excluded.response_ms,
        deployment = excluded.deployment, figures = excluded.figures
    WHERE COALESCE(i.deployment, excluded.deployment) = excluded.deployment
        OR i.last_heartbeat <= now() - %(max_age)s * interval '1 second'
    RETURNING i.*
), fresh AS (
    SELECT * FROM mine UNION ALL"""
_GONE = """
WITH before AS (
    DELETE FROM process_instances
    WHERE process_name = %(process)s AND host = %(host)s AND instance = %(instance)s
        AND COALESCE(deployment, %(deployment)s) = %(deployment)s RETURNING *
), fresh AS ("""

# Whether another deployment, which is alive, has the names. Its row stays.
_TAKEN = Statement(
    "heartbeat_names",
    """
SELECT EXISTS (SELECT FROM process_instances
    WHERE process_name = %(process)s AND host = %(host)s AND instance = %(instance)s AND deployment <> %(deployment)s
        AND last_heartbeat > now() - %(max_age)s * interval '1 second')""",
    process="text", host="text", instance="text", deployment="text", max_age="float8",
)  # fmt: skip

_TOGETHER = f"""
    SELECT * FROM process_instances
    WHERE process_name = %(process)s AND (host, instance) <> (%(host)s, %(instance)s)
      AND last_heartbeat > now() - %(max_age)s * interval '1 second'
), old AS (
    SELECT COALESCE(max(messages_processed), 0) AS processed, COALESCE(max(messages_sent), 0) AS sent,
        COALESCE(max(messages_received), 0) AS received, COALESCE(max(error_count), 0) AS errors,
        COALESCE(max((figures ->> 'failed')::bigint), 0) AS failed
    FROM before WHERE run = %(run)s
), totals AS (
    INSERT INTO process_totals AS t (process_name, processed, sent, received, errors, failed)
    SELECT %(process)s, GREATEST(%(processed)s - processed, 0), GREATEST(%(sent)s - sent, 0),
        GREATEST(%(received)s - received, 0), GREATEST(%(errors)s - errors, 0), GREATEST(%(failed)s - failed, 0)
    FROM old
    ON CONFLICT (process_name) DO UPDATE SET processed = t.processed + excluded.processed,
        sent = t.sent + excluded.sent, received = t.received + excluded.received, errors = t.errors + excluded.errors,
        failed = t.failed + excluded.failed,
        measured_at = CASE
            WHEN t.measured_at BETWEEN now() - interval '{METRICS_INTERVAL_SECONDS} seconds' AND now()
            THEN t.measured_at ELSE now() END
    RETURNING t.*
), health AS (
    INSERT INTO process_health AS h (process_name, status, last_heartbeat, error_count, last_error,
        uptime_seconds, memory_usage_mb, cpu_usage_percent, active_connections, messages_processed, updated_at)
    SELECT %(process)s, CASE WHEN count(*) = 0 THEN 'stopped' ELSE min(status) END,
           COALESCE(max(last_heartbeat), now()), LEAST((SELECT errors FROM totals), 2147483647),
           (array_agg(last_error ORDER BY last_heartbeat DESC) FILTER (WHERE last_error IS NOT NULL))[1],
           COALESCE(extract(epoch FROM max(now() - started_at)), 0)::int,
           COALESCE(sum(memory_usage_mb), 0), COALESCE(sum(cpu_usage_percent), 0),
           COALESCE(sum(active_connections), 0), (SELECT processed FROM totals), now()
    FROM fresh
    ON CONFLICT (process_name) DO UPDATE SET
        status = excluded.status,
        last_heartbeat = CASE excluded.status WHEN 'stopped' THEN h.last_heartbeat
                                              ELSE excluded.last_heartbeat END,
        error_count = excluded.error_count, last_error = COALESCE(excluded.last_error, h.last_error),
        uptime_seconds = excluded.uptime_seconds, memory_usage_mb = excluded.memory_usage_mb,
        cpu_usage_percent = excluded.cpu_usage_percent, active_connections = excluded.active_connections,
        messages_processed = excluded.messages_processed, updated_at = now()
    RETURNING h.*
), together AS (
    SELECT round(sum(response_ms) / NULLIF(sum(responses), 0), 1) AS response_ms,
        sum((figures ->> 'poolSize')::numeric) AS pool_size, sum((figures ->> 'poolUsed')::numeric) AS pool_used
    FROM fresh
)
INSERT INTO process_metrics (process_name, metric_name, metric_value, metric_type, metadata)
SELECT health.process_name, m.name, m.value, m.type, jsonb_build_object('instances', (SELECT count(*) FROM fresh))
FROM totals, health, together, LATERAL (VALUES
    ('messages_processed', totals.processed::numeric, 'counter'), ('messages_sent', totals.sent, 'counter'),
    ('messages_received', totals.received, 'counter'), ('errors', totals.errors, 'counter'),
    ('messages_failed', totals.failed, 'counter'), ('pool_size', together.pool_size, 'gauge'),
    ('pool_used', together.pool_used, 'gauge'), ('sessions', CASE WHEN health.process_name IN ('wwebjs', 'legacy') THEN
        (SELECT count(*) FROM wa_session WHERE state = 'WORKING') END, 'gauge'),
    ('average_response_time', together.response_ms, 'gauge'),
    ('active_connections', health.active_connections, 'gauge'),
    ('memory_usage_mb', health.memory_usage_mb, 'gauge'), ('cpu_usage_percent', health.cpu_usage_percent, 'gauge'),
    ('uptime_seconds', health.uptime_seconds, 'gauge')
) AS m (name, value, type)
WHERE totals.measured_at = now() AND m.value IS NOT NULL"""


# Prepared, since planning it takes several times as long as running it.
_BEAT = Statement(
    "heartbeat", _MINE + _TOGETHER,
    process="text", host="text", instance="text", pid="int", status="text", uptimeSeconds="float8", run="text",
    memoryMb="numeric", cpuPercent="numeric", connections="int", processed="bigint", sent="bigint", received="bigint",
    errors="bigint", lastError="text", responses="int", responseMs="numeric", deployment="text", figures="text",
    max_age="float8", failed="bigint",
)  # fmt: skip

#: The figures that the row has in its column `figures`.
_FIGURES = ("failures", "failed", "idleSeconds", "poolSize", "poolUsed", "poolWaits", "poolTimeouts")


class NameInUse(Exception):
    """Another deployment beats under the same host and instance names."""


class Heartbeat:
    """The heartbeat of one instance of a process: `start` beats at once, `stop` says that it has ended."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        process: str,
        instance: str,
        pid: int,
        counters: Counters,
        watchdog: Watchdog | None = None,
    ) -> None:
        """`pid`: the supervised process (gunicorn's master); its children count as parts of it."""
        self._settings, self._watchdog = settings, watchdog
        self._database, self._counters = database, counters
        self._process, self._instance, self._pid = process, instance, pid
        self._interval, self._max_age = settings.heartbeat_interval / 1000, settings.max_heartbeat_age / 1000
        self._run = secrets.token_hex(8)  # the counters begin at 0 with each
        self._responses, self._progress = _RecentResponses(counters), _Progress(counters)
        self._file = settings.heartbeat_dir / f"{instance}.json"
        self._tree = _Tree(pid)
        self._deployment = deployments.identity(settings)
        self._write_row = BoundedQuery(self._store)
        self._row_fault: str | None = None  # the reason why the last row was not written
        self._unwritten = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._beat = self._observe()

    def start(self) -> None:
        """Beat now and from now on, and record the settings of this start."""
        started_settings.record(self._settings, self._instance, self._pid)
        self._thread.start()

    def stop(self) -> None:
        """Remove the file and the row: the instance ended normally."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(DATABASE_TIMEOUT_SECONDS + 1)
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)
        self._beat = self._observe()
        self._tell_database(BoundedQuery(self._remove))

    @property
    def database_unavailable(self) -> bool:
        """Whether the database did not answer the last beat."""
        return self._row_fault is not None

    def _beat_on(self) -> None:
        while True:
            self.beat()
            if self._stopping.wait(self._interval):
                return

    def beat(self) -> None:
        """Write the file, then the row; the file again if the database has become unavailable, or available."""
        self.write_file()
        fault = self._row_fault
        self._tell_database(self._write_row)
        if self._row_fault != fault:
            self.write_file()

    def write_file(self) -> None:
        """Beat for this machine alone, at once."""
        self._beat = self._observe()
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk.refresh(self._file, orjson.dumps(self._beat))
        except OSError as error:
            if not self._unwritten:
                log.warning("heartbeat.file_not_written", reason=disk.explain(error, self._file))
            self._unwritten = True
        else:
            self._unwritten = False

    def _observe(self) -> dict[str, Any]:
        counters, tree = self._counters, self._tree.look()
        counters.refresh()
        responses, response_ms = self._responses.look()
        stuck = self._watchdog.fault if self._watchdog else None
        reason = stuck or counters.degraded or self._row_fault
        return {
            "process": self._process,
            "instance": self._instance,
            "pid": self._pid,
            "status": "degraded" if reason else "healthy",
            "reason": reason,
            "stuck": stuck,
            "beat_boottime": process_times.boottime(),
            "waited": round(process_times.waited(self._pid), 3),
            "started_at": time.time() - tree.uptime,
            "uptimeSeconds": round(tree.uptime, 3),
            "memoryMb": round(tree.memory / 2**20, 1),
            "cpuPercent": round(tree.cpu, 1),
            "activeBots": counters.active_bots,
            "connections": counters.connections + counters.clients(),
            "processed": counters.processed,
            "sent": counters.sent,
            "received": counters.received,
            "responses": responses,
            "responseMs": round(response_ms, 1),
            "answered": counters.responses,
            "answeredSeconds": round(counters.response_seconds, 3),
            "errors": counters.errors,
            "lastError": counters.last_error,
            **self._figures(),
        }

    def _figures(self) -> dict[str, Any]:
        """The figures that have no columns of their own."""
        failures = dict(self._counters.failures)  # at once: another thread counts
        failed = sum(failures.values())
        found = {"failures": failures, "failed": failed, "idleSeconds": self._progress.look(failed)}
        if self._counters.pool is not None:
            pool = self._counters.pool()
            found |= {"poolSize": pool.size, "poolUsed": pool.used}
            found |= {"poolWaits": pool.waits, "poolTimeouts": pool.timeouts}
        return found

    def _tell_database(self, statement: BoundedQuery[None]) -> None:
        try:
            statement.within(DATABASE_TIMEOUT_SECONDS)
            self._row_fault = None
        except (DatabaseUnavailable, DatabaseError, NameInUse) as error:
            if self._row_fault is None:
                log.warning("heartbeat.row_not_written", reason=str(error).strip())
            self._row_fault = _reason(error)

    def _store(self) -> None:
        with self._database.connection() as connection:
            run(connection, (_BEAT, self._checked_values(connection)))

    def _remove(self) -> None:
        with self._database.connection() as connection:
            query(connection, _GONE + _TOGETHER, self._checked_values(connection))

    def _checked_values(self, connection: Connection) -> dict[str, Any]:
        """The values of the row. Raises `NameInUse`."""
        own = {"host": socket.gethostname(), "max_age": self._max_age, "run": self._run, "deployment": self._deployment}
        figures = {name: self._beat[name] for name in _FIGURES if name in self._beat}
        values = self._beat | own | {"figures": orjson.dumps(figures).decode()}
        if run(connection, (_TAKEN, values)) == [(True,)]:
            raise NameInUse(
                f"another deployment uses this database under the host name {own['host']} and the instance name "
                f"{self._instance}: stop it, or give each machine a host name of its own"
            )
        return values


def _reason(error: Exception) -> str:
    """Why the row could not be written."""
    if refused := error_reasons.why(error):
        return f"PostgreSQL cannot store: {refused}"
    return "the database cannot be reached" if isinstance(error, DatabaseUnavailable) else str(error).strip()


class _RecentResponses:
    """The responses of the last minute."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._seen: deque[tuple[float, int, float]] = deque([(time.monotonic(), 0, 0.0)])  # when, and the counts then

    def look(self) -> tuple[int, float]:
        """How many there were, and how many milliseconds they took together."""
        now, counters = time.monotonic(), self._counters
        while len(self._seen) > 1 and self._seen[1][0] <= now - RESPONSES_SECONDS:
            self._seen.popleft()
        _, count, seconds = self._seen[0]
        self._seen.append((now, counters.responses, counters.response_seconds))
        return counters.responses - count, 1000 * max(counters.response_seconds - seconds, 0.0)


class _Progress:
    """When the process last finished a message, sent or failed, as far as its beats show."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._finished, self._at = 0, -math.inf

    def look(self, failed: int) -> float | None:
        """Seconds since then; None if it never finished one."""
        finished, now = self._counters.sent + failed, time.monotonic()
        if finished > self._finished:
            self._finished, self._at = finished, now
        return None if self._at < 0 else round(now - self._at, 3)


@dataclass(frozen=True, slots=True)
class _Look:
    uptime: float  # seconds
    memory: int  # bytes, resident
    cpu: float  # percent of one processor since the last look


class _Tree:
    """A process and everything below it."""

    def __init__(self, pid: int) -> None:
        self._root = pid
        self._started = process_times.boottime() - process_times.uptime(pid)
        self._last = (time.monotonic(), self._measure()[1])

    def look(self) -> _Look:
        uptime = process_times.boottime() - self._started
        memory, busy = self._measure()
        (before, busy_before), now = self._last, time.monotonic()
        self._last = now, busy
        elapsed = now - before
        return _Look(uptime, memory, 100 * max(busy - busy_before, 0) / elapsed if elapsed > 0.1 else 0.0)

    def _measure(self) -> tuple[int, float]:
        """Bytes resident, and seconds on a processor."""
        found = process_stat.descent(self._root)
        return sum(each.resident_bytes for each in found), sum(each.processor_seconds for each in found)


def worker_name(instance: str, run: str) -> str:
    """The name under which a worker claims: `<host>/<instance>/<run>`."""
    return f"{socket.gethostname()}/{instance}/{run}"
