"""The SQLite files of the simulated networks. Their contents survive a SIGKILL of the simulator."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Schema(NamedTuple):
    """The tables of a file."""

    version: int  # to be raised with every change of the tables: a file of another version is emptied
    script: str  # SQL that creates the tables and indexes that do not exist yet


_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


class Database:
    """One file. Thread-safe: one connection, used by one thread at a time."""

    def __init__(self, path: Path, schema: Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript("PRAGMA journal_mode = wal; PRAGMA synchronous = normal;")
        if self._connection.execute("PRAGMA user_version").fetchone()[0] != schema.version:
            tables = self._connection.execute(_TABLES).fetchall()
            self._connection.executescript("".join(f"DROP TABLE {table['name']};" for table in tables))
        self._connection.executescript(f"{schema.script} PRAGMA user_version = {schema.version};")

    def rows(self, query: str, values: Any = ()) -> list[dict[str, Any]]:
        """The rows that a query returns."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(query, values)]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the statements within the context in one transaction."""
        with self._lock:
            self._connection.rollback()  # an earlier transaction that could not be ended, on a full disk for example
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
