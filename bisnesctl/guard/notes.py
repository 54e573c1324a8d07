"""What happened, in `process_events`: written to a file first, so that nothing is lost while PostgreSQL is away.

Where the disk is full or read-only, it is kept in memory and stored from there.
"""

import errno
import json
import logging
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from bisnesctl.database import postgres
from bisnesctl.errors import BisnesError
from bisnesctl.host import disk

#: Seconds between two tries to reach the database, and for each of them.
PAUSE, PATIENCE = 5.0, 2
#: Bytes of notes that are kept while the database is away, at most.
LARGEST = 16 << 20
#: Notes that are kept in memory while the disk takes none, at most.
MOST_KEPT = 10_000
#: Notes in one transaction.
BATCH = 500

# The same note twice, after a crash in between, has the same moment and the same number.
_STORE = """
INSERT INTO process_events (process_name, event_type, event_data, severity, timestamp)
SELECT process_name, event_type, event_data, severity, to_timestamp(at)
FROM ROWS FROM (
    json_to_recordset(%s::json) AS (process_name text, event_type text, event_data jsonb, severity text, at float)
) WITH ORDINALITY AS n (process_name, event_type, event_data, severity, at, place)
WHERE NOT EXISTS (SELECT FROM process_events e WHERE e.process_name = n.process_name
    AND e.timestamp = to_timestamp(n.at) AND e.event_data = n.event_data)
ORDER BY place"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """One thing that happened."""

    program: str
    instance: str
    event: str  # process_exited, process_failed, memory_exceeded, …
    severity: str  # info, warning, error or critical
    at: float  # seconds since the epoch
    details: dict[str, Any]

    def line(self) -> str:
        """As a line of the file."""
        data = {"instance": self.instance, "host": socket.gethostname(), **self.details}
        return json.dumps({
            "process_name": self.program[:20], "event_type": self.event, "severity": self.severity,
            "event_data": data, "at": round(self.at, 6),
        })  # fmt: skip


class Notes:
    """Takes notes from one thread and stores them on another.

    Neither the disk nor PostgreSQL holds up whoever takes one.
    """

    def __init__(self, spool: Path, dsn: str) -> None:
        """`spool`: the file; what an earlier guard left in it is stored as well."""
        self._spool, self._sending, self._dsn = spool, spool.with_suffix(".sending"), dsn
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._wake.set()
        self._kept: list[str] = []  # lines that the file did not take
        self._sent = False  # whether the file that is being sent is stored, though it could not be removed
        self._away = Announcement("what happens is kept until PostgreSQL takes it")
        self._unwritten = Announcement("what happens is kept in memory")
        self._full = Announcement("what happens is not noted for now")

    def start(self) -> None:
        """Begin to store."""
        threading.Thread(target=self._store_on, name="notes", daemon=True).start()

    def take(self, note: Note) -> None:
        """Keep a note: in the file when this returns, or in memory where the disk takes nothing. Never raises."""
        with self._lock:
            if len(self._kept) < MOST_KEPT:
                self._kept.append(note.line())
            else:
                self._full.begin(f"{MOST_KEPT} are kept in memory")
            self._write_kept()
        self._wake.set()

    def _write_kept(self) -> None:
        try:
            if self._spool.exists() and self._spool.stat().st_size > LARGEST:
                self._full.begin(f"{self._spool} is full")
                return
            _append(self._spool, self._kept)
        except OSError as error:
            self._unwritten.begin(disk.explain(error, self._spool))
        else:
            self._kept.clear()
            self._unwritten.end()
            self._full.end()

    def _store_on(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while not self._store():
                threading.Event().wait(PAUSE)

    def _store(self) -> bool:
        """Whether all that was kept is stored."""
        try:
            written = self._store_file()
            self._store_kept()
        except (BisnesError, psycopg2.Error) as error:
            self._away.begin(str(error).strip())
            return False
        self._away.end()
        return written

    def _store_file(self) -> bool:
        """Store what is in the files; returns whether that left none."""
        try:
            while lines := self._next():
                if not self._sent:
                    self._send(lines)
                self._sent = True
                self._sending.unlink()
                self._sent = False
        except OSError as error:
            self._unwritten.begin(disk.explain(error, self._spool))
            return False
        return True

    def _store_kept(self) -> None:
        with self._lock:
            lines = list(self._kept)
        if lines:
            self._send(lines)
            sent = set(lines)
            with self._lock:
                self._kept = [line for line in self._kept if line not in sent]

    def _send(self, lines: list[str]) -> None:
        with postgres.connected(self._dsn, patience=PATIENCE) as connection, connection:
            for first in range(0, len(lines), BATCH):
                batch = ",".join(lines[first : first + BATCH])
                postgres.query(connection, _STORE, (f"[{batch}]",))

    def _next(self) -> list[str]:
        """The lines of the file that is being sent; the next one where there is none. A torn line is left out."""
        with self._lock:
            if self._kept:
                self._write_kept()
            if not self._sending.exists():
                if not self._spool.exists():
                    return []
                self._spool.rename(self._sending)
        return [line for line in self._sending.read_text().splitlines() if _is_whole(line)] or self._nothing()

    def _nothing(self) -> list[str]:
        self._sending.unlink()
        return []


class Announcement:
    """A condition that the log is told of when it begins and when it ends, not each time that it is met."""

    def __init__(self, what: str) -> None:
        self._what, self._reason = what, ""

    def begin(self, reason: str) -> None:
        """It is so, because of that."""
        if not self._reason:
            log.warning("%s: %s", self._what, reason)
        self._reason = reason

    def end(self) -> None:
        """It is so no more."""
        if self._reason:
            log.info("no more: %s", self._what)
        self._reason = ""


def _append(path: Path, lines: list[str]) -> None:
    """Append lines, or nothing at all. Raises `OSError`."""
    content = "".join(f"{line}\n" for line in ("", *lines)).encode()  # a torn line before them ends here
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


def _is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
