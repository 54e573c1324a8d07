"""What happened, in `process_events`: written to a file first, so that nothing is lost while PostgreSQL is away."""

import json
import logging
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisnesctl import postgres
from bisnesctl.errors import BisnesError

#: Seconds between two tries to reach the database, and for each of them.
PAUSE, PATIENCE = 5.0, 2
#: Bytes of notes that are kept while the database is away, at most.
LARGEST = 16 << 20
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
    """Takes notes from one thread and stores them on another."""

    def __init__(self, spool: Path, dsn: str) -> None:
        """`spool`: the file; what an earlier guard left in it is stored as well."""
        self._spool, self._sending, self._dsn = spool, spool.with_suffix(".sending"), dsn
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._wake.set()
        self._away = self._full = False

    def start(self) -> None:
        """Begin to store."""
        threading.Thread(target=self._store_on, name="notes", daemon=True).start()

    def take(self, note: Note) -> None:
        """Keep a note; it is in the file when this returns."""
        with self._lock:
            if self._spool.exists() and self._spool.stat().st_size > LARGEST:
                if not self._full:
                    log.error("%s is full: what happens is not noted until PostgreSQL is back", self._spool)
                self._full = True
                return
            self._full = False
            with self._spool.open("a") as file:
                file.write(f"{note.line()}\n")
        self._wake.set()

    def _store_on(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while not self._store():
                threading.Event().wait(PAUSE)

    def _store(self) -> bool:
        """Whether all that was kept is stored."""
        try:
            while lines := self._next():
                with postgres.connected(self._dsn, patience=PATIENCE) as connection, connection:
                    for first in range(0, len(lines), BATCH):
                        batch = ",".join(lines[first : first + BATCH])
                        postgres.query(connection, _STORE, (f"[{batch}]",))
                self._sending.unlink()
        except (BisnesError, OSError) as error:
            if not self._away:
                log.warning("what happens is kept in %s until PostgreSQL takes it: %s", self._spool, error)
            self._away = True
            return False
        self._away = False
        return True

    def _next(self) -> list[str]:
        """The lines of the file that is being sent; the next one where there is none. A torn line is left out."""
        with self._lock:
            if not self._sending.exists():
                if not self._spool.exists():
                    return []
                self._spool.rename(self._sending)
        return [line for line in self._sending.read_text().splitlines() if _is_whole(line)] or self._nothing()

    def _nothing(self) -> list[str]:
        self._sending.unlink()
        return []


def _is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
