"""The simulators' SQLite files: they survive a SIGKILL of the simulator."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Schema(NamedTuple):
    """The tables of a file."""

    version: int  # grows with every change of the tables; a file of another version is begun anew
    script: str  # SQL that makes what is not there yet


GRAPH = Schema(3, """
CREATE TABLE IF NOT EXISTS message (  -- a request of the business to send
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    at              REAL NOT NULL,    -- seconds since the epoch
    phone_number_id TEXT NOT NULL,
    recipient       TEXT NOT NULL,
    kind            TEXT NOT NULL,    -- text, image, …, read; '' where it could not be read
    text            TEXT NOT NULL,
    target          TEXT,             -- the message that a reaction or a read mark is about
    callback_data   TEXT,
    wamid           TEXT,             -- none: it was not taken, or is a read mark
    answer          TEXT NOT NULL,    -- 200, cut, or the code of the error
    request         TEXT NOT NULL     -- as it came
);
CREATE INDEX IF NOT EXISTS message_wamid ON message (wamid) WHERE wamid IS NOT NULL;
CREATE TABLE IF NOT EXISTS inbound (  -- a message of a customer
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    at              REAL NOT NULL,
    phone_number_id TEXT NOT NULL,
    chat            TEXT NOT NULL,    -- digits, or the user id of one who hides them
    wamid           TEXT NOT NULL,
    kind            TEXT NOT NULL,
    text            TEXT NOT NULL,
    target          TEXT,             -- the message that it answers or is about
    media           TEXT,
    read_at         REAL              -- when the business marked it as read
);
CREATE INDEX IF NOT EXISTS inbound_wamid ON inbound (wamid);
CREATE INDEX IF NOT EXISTS inbound_chat ON inbound (phone_number_id, chat, at);
CREATE TABLE IF NOT EXISTS report (   -- what is to be told by webhook
    id              INTEGER PRIMARY KEY,
    wamid           TEXT NOT NULL,
    phone_number_id TEXT NOT NULL,
    account         TEXT NOT NULL,    -- '' where it is the number's
    field           TEXT NOT NULL,    -- of the change: messages, account_update, …
    status          TEXT NOT NULL,    -- '' where the body is not a status
    body            TEXT NOT NULL,    -- JSON: one of `statuses`, or a change's whole value
    due             REAL NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    delivered_at    REAL
);
CREATE INDEX IF NOT EXISTS report_waiting ON report (due) WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS report_of ON report (wamid);
CREATE TABLE IF NOT EXISTS media (    -- a file that was uploaded or that a customer sent
    id              TEXT PRIMARY KEY,
    phone_number_id TEXT NOT NULL,
    mime_type       TEXT NOT NULL,
    sha256          TEXT NOT NULL,    -- hexadecimal
    size            INTEGER NOT NULL,
    filename        TEXT,
    animated        INTEGER NOT NULL,
    created         REAL NOT NULL,
    expires         REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS told (     -- what is known of numbers, accounts, tokens, templates
    kind            TEXT NOT NULL,
    name            TEXT NOT NULL,
    facts           TEXT NOT NULL,    -- a JSON object
    PRIMARY KEY (kind, name)
);
""")  # fmt: skip
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


class Database:
    """The file. Safe for threads: one connection, one at a time."""

    def __init__(self, path: Path, schema: Schema = GRAPH) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript("PRAGMA journal_mode = wal; PRAGMA synchronous = normal;")
        if self._connection.execute("PRAGMA user_version").fetchone()[0] != schema.version:
            tables = self._connection.execute(_TABLES).fetchall()
            self._connection.executescript("".join(f"DROP TABLE {each['name']};" for each in tables))
        self._connection.executescript(f"{schema.script} PRAGMA user_version = {schema.version};")

    def rows(self, query: str, values: Any = ()) -> list[dict[str, Any]]:
        """What a query finds."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(query, values)]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done with the connection holds, or nothing of it."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
