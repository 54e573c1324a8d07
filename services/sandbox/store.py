"""What came and what is still to be reported, in one SQLite file: it survives a SIGKILL of the simulator."""

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

#: Seconds between two tries to deliver a report: doubled from the first to the last of these.
RETRY_FIRST, RETRY_LAST = 0.25, 30.0

_SCHEMA = """
PRAGMA journal_mode = wal;
PRAGMA synchronous = normal;
CREATE TABLE IF NOT EXISTS message (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    at              REAL NOT NULL,  -- seconds since the epoch
    phone_number_id TEXT NOT NULL,
    recipient       TEXT NOT NULL,
    text            TEXT NOT NULL,
    callback_data   TEXT,
    wamid           TEXT,           -- none: it was not taken
    answer          TEXT NOT NULL   -- 200, cut, or the code of the error
);
CREATE TABLE IF NOT EXISTS report (
    id              INTEGER PRIMARY KEY,
    wamid           TEXT NOT NULL,
    phone_number_id TEXT NOT NULL,
    status          TEXT NOT NULL,
    body            TEXT NOT NULL,  -- JSON, as it stands in `statuses`
    due             REAL NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    delivered_at    REAL
);
CREATE INDEX IF NOT EXISTS report_waiting ON report (due) WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS report_of ON report (wamid);
"""

_ADD_MESSAGE = """
INSERT INTO message (at, phone_number_id, recipient, text, callback_data, wamid, answer)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
_ADD_REPORT = "INSERT INTO report (wamid, phone_number_id, status, body, due) VALUES (?, ?, ?, ?, ?)"
_DUE = """
SELECT id, phone_number_id, body FROM report WHERE delivered_at IS NULL AND due <= ? ORDER BY due, id LIMIT ?"""
_POSTPONE = """
UPDATE report SET attempts = attempts + 1, due = :now + min(:last, :first * (1 << min(attempts, 20)))
WHERE id = :id"""
_MESSAGES = """
SELECT seq, at, phone_number_id, recipient AS "to", text, callback_data AS biz_opaque_callback_data, wamid, answer,
       (SELECT group_concat(status, ' ') FROM (
           SELECT status FROM report WHERE wamid = message.wamid AND delivered_at IS NOT NULL
           ORDER BY delivered_at, id)) AS reported
FROM message"""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A request that came."""

    at: float  # seconds since the epoch
    phone_number_id: str
    recipient: str
    text: str
    callback_data: str | None
    wamid: str | None
    answer: str


@dataclass(frozen=True, slots=True)
class Report:
    """A status to report."""

    wamid: str
    phone_number_id: str
    status: str
    body: str
    due: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages are asked for; None asks nothing."""

    phone_number_id: str | None = None
    to: str | None = None
    text: str | None = None  # contained in the message's
    callback_data: str | None = None
    accepted: bool | None = None
    after: int = 0  # seq

    def condition(self) -> tuple[str, dict[str, Any]]:
        """A WHERE clause and its values."""
        asked = {name: value for name, value in asdict(self).items() if value is not None}
        return "WHERE " + " AND ".join(_CONDITIONS[name] for name in asked), asked


_CONDITIONS = {
    "phone_number_id": "phone_number_id = :phone_number_id",
    "to": "recipient = :to",
    "text": "instr(text, :text)",
    "callback_data": "callback_data = :callback_data",
    "accepted": "(wamid IS NOT NULL) = :accepted",
    "after": "seq > :after",
}


class Store:
    """The file. Safe for threads: one connection, one at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript(_SCHEMA)

    def add(self, receipt: Receipt, reports: Iterable[Report] = ()) -> None:
        """Remember a request and what is to be reported about it, both or neither."""
        with self._transaction() as connection:
            connection.execute(_ADD_MESSAGE, astuple(receipt))
            connection.executemany(_ADD_REPORT, map(astuple, reports))

    def messages(self, asked: Filter, limit: int) -> list[dict[str, Any]]:
        """The requests in the order of their arrival."""
        condition, values = asked.condition()
        return self._rows(f"{_MESSAGES} {condition} ORDER BY seq LIMIT {limit:d}", values)

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The last requests, the latest first."""
        return self._rows(f"{_MESSAGES} ORDER BY seq DESC LIMIT {limit:d}")

    def receipts(self, asked: Filter) -> dict[str, int]:
        """How often each callback data was taken."""
        condition, values = asked.condition()
        rows = self._rows(
            f"SELECT callback_data, count(*) AS n FROM message {condition}"
            " AND callback_data IS NOT NULL AND wamid IS NOT NULL GROUP BY callback_data",
            values,
        )
        return {row["callback_data"]: row["n"] for row in rows}

    def count(self, asked: Filter) -> int:
        """How many requests there are."""
        condition, values = asked.condition()
        return int(self._rows(f"SELECT count(*) AS n FROM message {condition}", values)[0]["n"])

    def due(self, now: float, limit: int) -> list[dict[str, Any]]:
        """The reports to deliver by now."""
        return self._rows(_DUE, (now, limit))

    def next_due(self) -> float | None:
        """When the next report is due."""
        found: float | None = self._rows("SELECT min(due) AS due FROM report WHERE delivered_at IS NULL")[0]["due"]
        return found

    def waiting(self) -> int:
        """How many reports are not delivered."""
        return int(self._rows("SELECT count(*) AS n FROM report WHERE delivered_at IS NULL")[0]["n"])

    def mark_delivered(self, ids: Iterable[int], now: float) -> None:
        """These reports arrived."""
        with self._transaction() as connection:
            connection.executemany("UPDATE report SET delivered_at = ? WHERE id = ?", [(now, each) for each in ids])

    def postpone(self, ids: Iterable[int], now: float) -> None:
        """These reports are tried again later."""
        wait = {"now": now, "first": RETRY_FIRST, "last": RETRY_LAST}
        with self._transaction() as connection:
            connection.executemany(_POSTPONE, [wait | {"id": each} for each in ids])

    def clear(self) -> None:
        """Forget everything."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM message")
            connection.execute("DELETE FROM report")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _rows(self, query: str, values: Any = ()) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(row) for row in self._connection.execute(query, values)]

    @contextmanager
    def _transaction(self) -> Any:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection
