"""Numbered migrations: files with plain SQL, each applied once and in its own transaction.

The number in `NNN_name.sql` identifies a migration. An advisory lock makes a second process wait for the first.
"""

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import errors as refusals

from bisnesctl.database.postgres import Connection, connected, query
from bisnesctl.database.statement_deadline import while_answering
from bisnesctl.errors import MigrationError
from bisnesctl.paths import shipped_folder

#: The advisory lock of a process that migrates: "bisn" as a number.
ADVISORY_LOCK = 0x6269736E
#: Seconds to wait for the lock of a table. While we wait, all later users of the table wait too.
TABLE_LOCK_TIMEOUT_SECONDS = 10
#: Seconds to wait for another process that migrates, and between two looks whether it has ended.
LOCK_TIMEOUT_SECONDS = 1800.0
LOCK_POLL_SECONDS = 0.2
#: Seconds in which PostgreSQL must accept a connection while a migration runs, however long the migration takes.
ANSWER_TIMEOUT_SECONDS = 5
#: Times that a file is tried before its deadlocks with others are an error.
DEADLOCK_ATTEMPTS = 10

Report = Callable[[str], None]

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,  -- SHA-256 of the file, in hex
    applied_at timestamptz NOT NULL DEFAULT now()
)"""

# A semicolon ends a statement unless it is in a comment, a string, a name or the body of a function.
_PIECE = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"[^"]*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|(?P<end>;)|[^-/'"$;]+|.""", re.DOTALL
)
_BLANK = re.compile(r"(?>\s+|--[^\n]*|/\*.*?\*/)*+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file."""

    version: int
    name: str  # the file's name without .sql
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationState:
    """A migration and its state in the database."""

    migration: Migration
    applied_at: str | None  # None: pending
    changed: bool = False  # whether the file was changed after it was applied


def available(path: Path | None = None) -> list[Migration]:
    """The shipped migrations, or those in a folder, in order."""
    files = sorted((path or shipped_folder("sql")).glob("[0-9]*_*.sql"))
    return [Migration(int(file.stem.split("_")[0]), file.stem, file.read_text()) for file in files]


def status(dsn: str, path: Path | None = None) -> list[MigrationState]:
    """The state of each migration. Raises `DatabaseUnavailable`."""
    with connected(dsn) as connection:
        return _states(connection, path)


def pending(dsn: str, path: Path | None = None) -> list[str]:
    """The names of the migrations that the database lacks. Raises `DatabaseUnavailable`."""
    return [state.migration.name for state in status(dsn, path) if state.applied_at is None]


def apply(dsn: str, *, report: Report = lambda _: None, path: Path | None = None) -> list[str]:
    """Applies the pending migrations and returns their names.

    Raises `DatabaseUnavailable`, or `MigrationError` with file and line; earlier migrations stay applied.
    """
    with (
        connected(dsn) as connection,
        while_answering(connection, dsn, ANSWER_TIMEOUT_SECONDS),
        _exclusive(connection, report),
    ):
        query(connection, _CREATE_TABLE)
        states = _states(connection, path)
        for state in states:
            if state.changed:
                report(f"{state.migration.name}.sql was changed after it was applied; the change has no effect here")
        lacking = [state.migration for state in states if state.applied_at is None]
        for migration in lacking:
            report(f"applying {migration.name}")
            _apply(connection, migration, report)
    return [migration.name for migration in lacking]


def statements(sql: str) -> Iterator[tuple[int, str]]:
    """The statements of a file with the number of their first line, without blank lines and comments between them."""
    begin, line = 0, 1
    for piece in _PIECE.finditer(sql):
        if piece["end"] or piece.end() == len(sql):
            text = sql[begin : piece.end()]
            blank = _BLANK.match(text).end()  # type: ignore[union-attr]  # it matches the empty string too
            if text[blank:] not in ("", ";"):
                yield line + text[:blank].count("\n"), text[blank:]
            begin, line = piece.end(), line + text.count("\n")


_CREATED = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_CHANGED = re.compile(
    r"\b(?:ALTER TABLE|DROP TABLE|UPDATE|DELETE FROM|INSERT INTO|REFERENCES)(?: IF EXISTS)?(?: ONLY)? (\w+)"
    r"|\b(?:INDEX|TRIGGER)\b[^;]*? ON (?:ONLY )?(\w+)"
)
_FUNCTION = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)


def changed_tables(sql: str) -> tuple[set[str], set[str]]:
    """The tables that a migration creates, and those that it alters, fills or gives an index or a trigger."""
    created, changed = set(), set()
    for _, statement in statements(sql):
        is_block = statement.startswith("DO ")
        text = re.sub(r"--[^\n]*", "", statement if is_block else _FUNCTION.sub("", statement))
        created |= set(_CREATED.findall(text))
        changed |= {first or second for first, second in _CHANGED.findall(text)}
    return created, changed


def existing_tables(connection: Connection) -> set[str]:
    """The names of the tables that the database has."""
    rows = query(connection, "SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false))")
    return {str(row[0]) for row in rows}


def _states(connection: Connection, path: Path | None) -> list[MigrationState]:
    applied: dict[int, tuple[str, str]] = {}
    if query(connection, "SELECT to_regclass('schema_migrations')") != [(None,)]:
        rows = query(connection, "SELECT version, applied_at::timestamptz(0)::text, checksum FROM schema_migrations")
        applied = {version: (at, checksum) for version, at, checksum in rows}
    states = []
    for migration in available(path):
        applied_at, checksum = applied.get(migration.version, (None, migration.checksum))
        states.append(MigrationState(migration, applied_at, changed=checksum != migration.checksum))
    return states


def _apply(connection: Connection, migration: Migration, report: Report) -> None:
    """Applies a file; again if PostgreSQL ended it because it and a running program waited for each other."""
    for attempt in range(1, DEADLOCK_ATTEMPTS + 1):
        try:
            return _apply_once(connection, migration)
        except refusals.DeadlockDetected:
            report(f"{migration.name}.sql and a running program waited for each other's tables (attempt {attempt})")
    raise MigrationError(
        f"{migration.name}.sql: deadlock detected {DEADLOCK_ATTEMPTS} times. Nothing of the file was applied; run "
        "`bisnesctl migrate` again when there is less traffic"
    )


def _apply_once(connection: Connection, migration: Migration) -> None:
    with connection:
        query(connection, f"SET LOCAL lock_timeout = '{TABLE_LOCK_TIMEOUT_SECONDS}s'; SET LOCAL statement_timeout = 0")
        for line, statement in statements(migration.sql):
            with _translated(migration, line):
                query(connection, statement)
        query(
            connection,
            "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
            (migration.version, migration.name, migration.checksum),
        )


@contextlib.contextmanager
def _translated(migration: Migration, line: int) -> Iterator[None]:
    try:
        yield
    except refusals.DeadlockDetected:
        raise
    except refusals.LockNotAvailable as error:
        raise MigrationError(
            f"{migration.name}.sql, line {line}: a table was locked by others for {TABLE_LOCK_TIMEOUT_SECONDS} s. "
            "Nothing of the file was applied; run `bisnesctl migrate` again when there is less traffic"
        ) from error
    except psycopg2.Error as error:
        if error.pgcode is None:  # the connection broke
            raise
        within = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
        at = line + int(within[1]) - 1 if within else line
        raise MigrationError(
            f"{migration.name}.sql, line {at}: {error.diag.message_primary}. Nothing of the file was applied"
        ) from error


@contextlib.contextmanager
def _exclusive(connection: Connection, report: Report) -> Iterator[None]:
    deadline: float | None = None
    while query(connection, "SELECT pg_try_advisory_lock(%s)", (ADVISORY_LOCK,)) == [(False,)]:
        if deadline is None:
            report("another process is migrating this database: waiting for it")
            deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        if time.monotonic() > deadline:
            raise MigrationError(
                f"another process migrates this database for more than {LOCK_TIMEOUT_SECONDS / 60:g} minutes: wait for "
                "it or end it, then run `bisnesctl migrate` again"
            )
        time.sleep(LOCK_POLL_SECONDS)
    yield  # the lock ends with the connection
