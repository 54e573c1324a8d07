"""Writes events of processes to `process_events`, through a file so that none is lost while PostgreSQL is unavailable.

If the disk is full or read-only, events are kept in memory and stored from there.
"""

import errno
import json
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import structlog

from bisnesctl.database import postgres
from bisnesctl.database.event_log import SENDING
from bisnesctl.errors import BisnesError
from bisnesctl.host import disk

#: Seconds between attempts to reach the database.
RETRY_INTERVAL_SECONDS = 5.0
#: Seconds to connect, and for each statement.
DATABASE_TIMEOUT_SECONDS = 2
#: Bytes of the file while the database is unavailable, at most.
MAX_SPOOL_BYTES = 16 << 20
#: Events kept in memory while the disk is full or read-only, at most.
MAX_EVENTS_IN_MEMORY = 10_000
#: Events stored in one transaction.
EVENTS_PER_TRANSACTION = 500

# After a crash in between, an event is sent twice, with the same time and the same data.
_STORE = """
INSERT INTO process_events (process_name, event_type, event_data, severity, timestamp)
SELECT process_name, event_type, event_data, severity, to_timestamp(at)
FROM ROWS FROM (
    json_to_recordset(%s::json) AS (process_name text, event_type text, event_data jsonb, severity text, at float)
) WITH ORDINALITY AS n (process_name, event_type, event_data, severity, at, place)
WHERE NOT EXISTS (SELECT FROM process_events e WHERE e.process_name = n.process_name
    AND e.timestamp = to_timestamp(n.at) AND e.event_data = n.event_data)
ORDER BY place"""

log = structlog.get_logger()


@dataclass(frozen=True)
class ProcessEvent:
    """One event in the life of an instance."""

    program: str
    instance: str
    event: str  # process_exited, process_failed, memory_exceeded, …
    severity: str  # info, warning, error or critical
    at: float  # seconds since the epoch
    details: dict[str, Any]

    def line(self) -> str:
        """The event as a line of the file."""
        data = {"instance": self.instance, "host": socket.gethostname(), **self.details}
        return json.dumps({
            "process_name": self.program[:20], "event_type": self.event, "severity": self.severity,
            "event_data": data, "at": round(self.at, 6),
        })  # fmt: skip


class LoggedCondition:
    """A condition that is logged when it begins and when it ends, not each time that it is met."""

    def __init__(self, began: str, ended: str) -> None:
        """`began`, `ended`: the names of the log events."""
        self._began = began
        self._ended = ended
        self._reason = ""

    def begin(self, reason: str) -> None:
        """Logs the condition with its reason, unless it has begun already."""
        if not self._reason:
            log.warning(self._began, reason=reason)
        self._reason = reason

    def end(self) -> None:
        """Logs the end, if it had begun."""
        if self._reason:
            log.info(self._ended)
        self._reason = ""


class ProcessEventWriter:
    """Accepts events on one thread and stores them on another. Neither the disk nor PostgreSQL delays the caller."""

    def __init__(self, spool: Path, dsn: str) -> None:
        """`spool`: the file; events that an earlier guard left in it are stored too."""
        self._spool = spool
        self._sending = spool.with_suffix(SENDING)
        self._dsn = dsn
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._wake.set()
        self._in_memory: list[str] = []  # lines that could not be written to the file
        self._sent = False  # whether `_sending` is stored, although it could not be removed
        self._unavailable = LoggedCondition("process_events.storing_paused", "process_events.storing_resumed")
        self._unwritable = LoggedCondition("process_events.spool_unwritable", "process_events.spool_writable")
        self._full = LoggedCondition("process_events.dropping_started", "process_events.dropping_ended")

    def start(self) -> None:
        """Starts the thread that stores."""
        threading.Thread(target=self._store_forever, name="process-events", daemon=True).start()

    def record(self, event: ProcessEvent) -> None:
        """Keeps an event: in the file when this returns, or in memory if the file cannot be written. Never raises."""
        with self._lock:
            if len(self._in_memory) < MAX_EVENTS_IN_MEMORY:
                self._in_memory.append(event.line())
            else:
                self._full.begin(f"{MAX_EVENTS_IN_MEMORY} events are kept in memory")
            self._write_spool()
        self._wake.set()

    def _write_spool(self) -> None:
        try:
            if self._spool.exists() and self._spool.stat().st_size > MAX_SPOOL_BYTES:
                self._full.begin(f"{self._spool} has reached its largest size")
                return
            _append(self._spool, self._in_memory)
        except OSError as error:
            self._unwritable.begin(disk.explain(error, self._spool))
        else:
            self._in_memory.clear()
            self._unwritable.end()
            self._full.end()

    def _store_forever(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while not self._store():
                threading.Event().wait(RETRY_INTERVAL_SECONDS)

    def _store(self) -> bool:
        """Stores all events; returns whether none is left."""
        try:
            files_done = self._store_files()
            self._store_memory()
        except (BisnesError, psycopg2.Error) as error:
            self._unavailable.begin(str(error).strip())
            return False
        self._unavailable.end()
        return files_done

    def _store_files(self) -> bool:
        """Stores the events in the files; returns whether none is left."""
        try:
            while lines := self._next_lines():
                if not self._sent:
                    self._send(lines)
                self._sent = True
                self._sending.unlink()
                self._sent = False
        except OSError as error:
            self._unwritable.begin(disk.explain(error, self._spool))
            return False
        return True

    def _store_memory(self) -> None:
        with self._lock:
            lines = list(self._in_memory)
        if lines:
            self._send(lines)
            sent = set(lines)
            with self._lock:
                self._in_memory = [line for line in self._in_memory if line not in sent]

    def _send(self, lines: list[str]) -> None:
        with postgres.connected(self._dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection, connection:
            for first in range(0, len(lines), EVENTS_PER_TRANSACTION):
                batch = ",".join(lines[first : first + EVENTS_PER_TRANSACTION])
                postgres.query(connection, _STORE, (f"[{batch}]",))

    def _next_lines(self) -> list[str]:
        """The lines of the file being sent, or of the next one; empty if there is none. Skips an incomplete line."""
        with self._lock:
            if self._in_memory:
                self._write_spool()
            if not self._sending.exists():
                if not self._spool.exists():
                    return []
                self._spool.rename(self._sending)
        lines = [line for line in self._sending.read_text().splitlines() if _is_complete(line)]
        if not lines:
            self._sending.unlink()
        return lines


def _append(path: Path, lines: list[str]) -> None:
    """Appends lines, or nothing at all. Raises `OSError`."""
    content = "".join(f"{line}\n" for line in ("", *lines)).encode()  # ends an incomplete line before them
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        try:
            if os.write(handle, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def _is_complete(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
