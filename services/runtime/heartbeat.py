"""Heartbeats: each process writes a small file and a row in the database, every HEARTBEAT_INTERVAL.

Local probes read the file, which is written even if the database is unavailable. Its age is measured by CLOCK_BOOTTIME,
which no change of the wall clock affects.
"""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import psutil
import structlog

from bisnesctl.database import deployments
from bisnesctl.host import disk, process_times
from bisnesctl.settings import Settings
from services.database import error_reasons
from services.database.bounded_query import BoundedQuery
from services.database.connection import Database, DatabaseError, DatabaseUnavailable, query_value

#: Seconds for the row of a beat; a frozen database must not stop the file.
DATABASE_TIMEOUT_SECONDS = 2.0

log = structlog.get_logger()


@dataclass(slots=True)
class Counters:
    """The counters of a process since its start; the heartbeat reports them."""

    processed: int = 0  # messages accepted by the API or sent by a worker, webhooks stored by a receiver
    errors: int = 0
    last_error: str | None = None
    active_bots: int = 0
    degraded: str | None = None  # why the process does not work as it should


class Watchdog(Protocol):
    """Watches whether the process serves its callers."""

    #: The reason why it does not; None if it does.
    fault: str | None


_MINE = """
WITH mine AS (
    INSERT INTO process_instances AS i (process_name, host, instance, pid, status, started_at,
        memory_usage_mb, cpu_usage_percent, active_connections, messages_processed, error_count, last_error, deployment)
    VALUES (%(process)s, %(host)s, %(instance)s, %(pid)s, %(status)s,
        now() - %(uptimeSeconds)s * interval '1 second', %(memoryMb)s, %(cpuPercent)s,
        %(activeBots)s, %(processed)s, %(errors)s, %(lastError)s, %(deployment)s)
    ON CONFLICT (process_name, host, instance) DO UPDATE SET
        pid = excluded.pid, status = excluded.status, started_at = excluded.started_at,
        last_heartbeat = now(), memory_usage_mb = excluded.memory_usage_mb,
        cpu_usage_percent = excluded.cpu_usage_percent,
        active_connections = excluded.active_connections, messages_processed = excluded.messages_processed,
        error_count = excluded.error_count, last_error = excluded.last_error, deployment = excluded.deployment
    WHERE COALESCE(i.deployment, excluded.deployment) = excluded.deployment
        OR i.last_heartbeat <= now() - %(max_age)s * interval '1 second'
    RETURNING i.*
), fresh AS (
    SELECT * FROM mine UNION ALL"""
_GONE = """
WITH mine AS (
    DELETE FROM process_instances
    WHERE process_name = %(process)s AND host = %(host)s AND instance = %(instance)s
        AND COALESCE(deployment, %(deployment)s) = %(deployment)s
    RETURNING 1
), fresh AS ("""

# The process is what its fresh instances are together. A statement does not see its own changes, hence the
# union above. A row of another deployment under the same names stays, and counts.
_TOGETHER = """
    SELECT * FROM process_instances
    WHERE process_name = %(process)s
      AND ((host, instance) <> (%(host)s, %(instance)s) OR NOT EXISTS (SELECT FROM mine))
      AND last_heartbeat > now() - %(max_age)s * interval '1 second'
)
INSERT INTO process_health AS h (process_name, status, last_heartbeat, error_count, last_error,
    uptime_seconds, memory_usage_mb, cpu_usage_percent, active_connections, messages_processed, updated_at)
SELECT %(process)s, CASE WHEN count(*) = 0 THEN 'stopped' ELSE min(status) END,
       COALESCE(max(last_heartbeat), now()),
       COALESCE(sum(error_count), 0), (array_agg(last_error ORDER BY last_heartbeat DESC)
           FILTER (WHERE last_error IS NOT NULL))[1],
       COALESCE(extract(epoch FROM max(now() - started_at)), 0)::int,
       COALESCE(sum(memory_usage_mb), 0), COALESCE(sum(cpu_usage_percent), 0),
       COALESCE(max(active_connections), 0), COALESCE(sum(messages_processed), 0), now()
FROM fresh
ON CONFLICT (process_name) DO UPDATE SET
    status = excluded.status,
    last_heartbeat = CASE excluded.status WHEN 'stopped' THEN h.last_heartbeat
                                          ELSE excluded.last_heartbeat END,
    error_count = excluded.error_count, last_error = COALESCE(excluded.last_error, h.last_error),
    uptime_seconds = excluded.uptime_seconds, memory_usage_mb = excluded.memory_usage_mb,
    cpu_usage_percent = excluded.cpu_usage_percent, active_connections = excluded.active_connections,
    messages_processed = excluded.messages_processed, updated_at = now()
RETURNING EXISTS (SELECT FROM mine)"""


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
        self._watchdog = watchdog
        self._database, self._counters = database, counters
        self._process, self._instance, self._pid = process, instance, pid
        self._interval, self._max_age = settings.heartbeat_interval / 1000, settings.max_heartbeat_age / 1000
        self._file = settings.heartbeat_dir / f"{instance}.json"
        self._tree = _Tree(pid)
        self._deployment = deployments.identity(settings)
        self._write_row = BoundedQuery(self._execute_mine)
        self._row_fault: str | None = None  # the reason why the last row was not written
        self._unwritten = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._beat = self._observe()

    def start(self) -> None:
        """Beat now and from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Remove the file and the row: the instance ended normally."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(DATABASE_TIMEOUT_SECONDS + 1)
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)
        self._tell_database(BoundedQuery(lambda: self._execute(_GONE)))

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
            "processed": counters.processed,
            "errors": counters.errors,
            "lastError": counters.last_error,
        }

    def _tell_database(self, statement: BoundedQuery[Any]) -> None:
        try:
            statement.within(DATABASE_TIMEOUT_SECONDS)
            self._row_fault = None
        except (DatabaseUnavailable, DatabaseError, NameInUse) as error:
            if self._row_fault is None:
                log.warning("heartbeat.row_not_written", reason=str(error).strip())
            self._row_fault = _reason(error)

    def _execute_mine(self) -> None:
        if not self._execute(_MINE):
            raise NameInUse(
                f"another deployment uses this database under the host name {socket.gethostname()} and the instance "
                f"name {self._instance}: stop it, or give each machine a host name of its own"
            )

    def _execute(self, statement: str) -> bool:
        """Whether the row was this deployment's to change."""
        own = {"host": socket.gethostname(), "max_age": self._max_age, "deployment": self._deployment}
        with self._database.connection() as connection:
            return bool(query_value(connection, statement + _TOGETHER, self._beat | own))


def _reason(error: Exception) -> str:
    """Why the row could not be written."""
    if refused := error_reasons.why(error):
        return f"PostgreSQL cannot store: {refused}"
    return "the database cannot be reached" if isinstance(error, DatabaseUnavailable) else str(error).strip()


@dataclass(frozen=True, slots=True)
class _Look:
    uptime: float  # seconds
    memory: int  # bytes, resident
    cpu: float  # percent of one processor since the last look


class _Tree:
    """A process and everything below it."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
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
        memory, busy = 0, 0.0
        with contextlib.suppress(psutil.NoSuchProcess):  # it is ending, and we with it
            for process in (self._root, *self._root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
                    memory += process.memory_info().rss
                    times = process.cpu_times()
                    busy += times.user + times.system
        return memory, busy


def worker_name(instance: str, run: str) -> str:
    """The name under which a worker claims: `<host>/<instance>/<run>`."""
    return f"{socket.gethostname()}/{instance}/{run}"
