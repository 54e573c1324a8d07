"""A connection to PostgreSQL for the tool's own questions, and what its errors mean to the operator."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg2
from psycopg2 import errors as refusals

from bisnesctl.database import statement_deadline
from bisnesctl.errors import ConfigError, DatabaseUnavailable, MigrationsPending

#: Seconds to wait for a connection.
CONNECT_TIMEOUT = 5
#: Seconds for a statement of a command, such as one that changes all messages of a bot.
STATEMENT_TIMEOUT_SECONDS = 60.0

#: Raises what a server that cannot store raises, such as 53100 where its disk is full or 25006 where it is read-only:
#: it makes a table with a row, and takes that back. A user who may make no temporary tables learns nothing.
WRITE_TEST = """
DO $$ BEGIN
    CREATE TEMP TABLE bisnes_write_test AS SELECT 1 AS one;
    RAISE EXCEPTION 'taken back';
EXCEPTION WHEN raise_exception OR insufficient_privilege OR duplicate_table THEN NULL;
END $$"""

Connection = statement_deadline.Connection
Row = tuple[Any, ...]


@contextlib.contextmanager
def connected(
    dsn: str, hint: str = "See `bisnesctl status`, or DATABASE_URL in .env", patience: int = 0
) -> Iterator[Connection]:
    """A connection in autocommit; `with connection` makes a transaction. Closed at the end.

    `patience`: seconds, at least 2, to connect and for each statement, for those who cannot wait; 0: `CONNECT_TIMEOUT`
    and `STATEMENT_TIMEOUT_SECONDS`.
    Raises `DatabaseUnavailable` with the hint (where to look), also where it breaks later, `MigrationsPending`
    where a table or column is missing, `ConfigError` where the user may not do it.
    """
    with _translated(hint):
        limit = patience + 1.0 if patience else STATEMENT_TIMEOUT_SECONDS  # the server's own limit comes first
        connection = statement_deadline.connect(dsn, patience or CONNECT_TIMEOUT, limit, application_name="bisnesctl")
        with contextlib.closing(connection):
            if patience:
                query(connection, "SET statement_timeout = %s", (patience * 1000,))
            yield connection


def query(connection: Connection, statement: str, values: Any = None) -> list[Row]:
    """Runs a statement and returns its rows; none where it has none. `%` counts only where there are values."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def _translated(hint: str) -> Iterator[None]:
    try:
        yield
    except (refusals.UndefinedTable, refusals.UndefinedColumn) as error:
        raise MigrationsPending(f"{_first_line(error)}: run `bisnesctl migrate` first") from error
    except refusals.InsufficientPrivilege as error:
        raise ConfigError(f"{_first_line(error)}: name a user in DATABASE_URL who may") from error
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise DatabaseUnavailable(f"{_told(error)}. {hint}") from error
    except refusals.ReadOnlySqlTransaction as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot store: it is read-only (a standby, perhaps). {hint}") from error
    except psycopg2.ProgrammingError as error:
        if not str(error).startswith("invalid dsn"):
            raise
        # The reason would repeat the URL, password and all.
        raise ConfigError("DATABASE_URL is not a libpq URL, such as postgresql://user:password@host/name") from None


def _told(error: psycopg2.Error) -> str:
    if isinstance(error, statement_deadline.StatementTimeout | statement_deadline.ConnectTimeout):
        return _first_line(error)
    what = "cannot be reached" if error.pgcode is None else "gave up"
    return f"PostgreSQL {what}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
