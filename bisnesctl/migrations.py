"""Numbered migrations, plain SQL in files, each applied once and in one transaction of its own.

A file `NNN_name.sql` is known by its number. Two at the same time: the second waits for the first (an advisory lock).
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

from bisnesctl.errors import DatabaseUnavailable, MigrationError
from bisnesctl.resources import folder

#: The advisory lock that one migrating process holds: "bisn" as a number.
LOCK = 0x6269736E
#: Seconds to wait for a connection.
CONNECT_TIMEOUT = 5

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""

Connection = psycopg2.extensions.connection


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str  # the file's name without .sql
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class State:
    """A migration and what the database knows of it."""

    migration: Migration
    applied_at: str | None  # None: pending
    changed: bool = False  # whether the file was changed after it was applied


def available(path: Path | None = None) -> list[Migration]:
    """The migrations that are shipped, in order."""
    files = sorted((path or folder("sql")).glob("[0-9]*_*.sql"))
    return [Migration(int(file.stem.split("_")[0]), file.stem, file.read_text()) for file in files]


def status(dsn: str, path: Path | None = None) -> list[State]:
    """Each migration with when it was applied. Raises `DatabaseUnavailable`."""
    with _connected(dsn) as connection:
        applied = _applied(connection)
    return [State(each, *_known(applied.get(each.version), each)) for each in available(path)]


def pending(dsn: str, path: Path | None = None) -> list[str]:
    """The names of the migrations that the database lacks. Raises `DatabaseUnavailable`."""
    return [state.migration.name for state in status(dsn, path) if state.applied_at is None]


def apply(dsn: str, *, report: Callable[[str], None] = lambda _: None, path: Path | None = None) -> list[str]:
    """Apply what is pending and return the names.

    Raises `DatabaseUnavailable`, or `MigrationError` naming file and line; the migrations before it stay applied.
    """
    with _connected(dsn) as connection, _alone(connection, report):
        _execute(connection, _LEDGER)
        applied = _applied(connection)
        done = [each for each in available(path) if each.version not in applied]
        for migration in done:
            report(f"applying {migration.name}")
            _apply(connection, migration)
    return [migration.name for migration in done]


def _apply(connection: Connection, migration: Migration) -> None:
    record = "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)"
    try:
        _execute(connection, "BEGIN")
        _execute(connection, migration.sql)
        _execute(connection, record, (migration.version, migration.name, migration.checksum))
        _execute(connection, "COMMIT")
    except psycopg2.Error as error:
        if not connection.closed:
            _execute(connection, "ROLLBACK")
        raise MigrationError(f"{migration.name}.sql failed and was rolled back: {_where(error)}") from error


def _where(error: psycopg2.Error) -> str:
    message = str(error).strip()
    line = re.search(r"^LINE (\d+):", message, re.MULTILINE)
    said = message.splitlines()[0] if message else type(error).__name__
    return f"line {line[1]}: {said}" if line else said


def _applied(connection: Connection) -> dict[int, tuple[str, str]]:
    if _rows(connection, "SELECT to_regclass('schema_migrations')") == [(None,)]:
        return {}
    rows = _rows(connection, "SELECT version, applied_at::timestamp(0)::text, checksum FROM schema_migrations")
    return {version: (applied_at, checksum) for version, applied_at, checksum in rows}


def _known(row: tuple[str, str] | None, migration: Migration) -> tuple[str | None, bool]:
    return (row[0], row[1] != migration.checksum) if row else (None, False)


@contextmanager
def _connected(dsn: str) -> Iterator[Connection]:
    try:
        connection = psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT, application_name="bisnesctl migrate")
    except psycopg2.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {reason}") from error
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _alone(connection: Connection, report: Callable[[str], None]) -> Iterator[None]:
    if _rows(connection, "SELECT pg_try_advisory_lock(%s)", (LOCK,)) == [(False,)]:
        report("another process is migrating this database, waiting for it")
        _execute(connection, "SELECT pg_advisory_lock(%s)", (LOCK,))
    yield  # the lock ends with the connection


def _execute(connection: Connection, statement: str, values: tuple[object, ...] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def _rows(connection: Connection, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()
