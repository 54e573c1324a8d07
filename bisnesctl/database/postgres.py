"""Connections to PostgreSQL for the tool, with errors that operators understand."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg2
from psycopg2 import errors as refusals

from bisnesctl import addresses
from bisnesctl.database import pooler, statement_deadline
from bisnesctl.errors import ConfigError, DatabaseUnavailable, MigrationsPending
from bisnesctl.host.absence import absence
from bisnesctl.settings import Settings

#: Seconds to connect.
CONNECT_TIMEOUT_SECONDS = 5
#: Seconds for a statement of a command. A statement may change all messages of a bot.
STATEMENT_TIMEOUT_SECONDS = 60.0

#: Raises the error of a server that cannot store, such as 53100 (its disk is full) or 25006 (it is read-only): the
#: statement creates a table with a row and rolls it back. It finds nothing if the user may not create temporary tables.
WRITE_TEST = """
DO $$ BEGIN
    CREATE TEMP TABLE bisnes_write_test AS SELECT 1 AS one;
    RAISE EXCEPTION 'rolled back';
EXCEPTION WHEN raise_exception OR insufficient_privilege OR duplicate_table THEN NULL;
END $$"""

#: The next step if PostgreSQL cannot be reached.
HINT = "See `bisnesctl status`, or DATABASE_URL"

Connection = statement_deadline.Connection
Row = tuple[Any, ...]


@contextlib.contextmanager
def connected(dsn: str, hint: str = HINT, timeout: int = 0) -> Iterator[Connection]:
    """A connection in autocommit; `with connection` makes a transaction. It is closed at the end.

    `timeout`: seconds, at least 2, to connect and for each statement, for callers that cannot wait; 0: the defaults
    `CONNECT_TIMEOUT_SECONDS` and `STATEMENT_TIMEOUT_SECONDS`.
    Raises `DatabaseUnavailable` with the hint (where to look), even if the connection breaks later;
    `MigrationsPending` if a table or column is missing; `ConfigError` if the URL, the database or its user is unusable.
    """
    with translated(hint, dsn):
        limit = timeout + 1.0 if timeout else STATEMENT_TIMEOUT_SECONDS  # the server's own limit comes first
        connect_timeout = timeout or CONNECT_TIMEOUT_SECONDS
        connection = statement_deadline.connect(dsn, connect_timeout, limit, application_name="bisnesctl")
        with contextlib.closing(connection):
            if timeout:
                query(connection, "SET statement_timeout = %s", (timeout * 1000,))
            yield connection


def command_connection(settings: Settings) -> contextlib.AbstractContextManager[Connection]:
    """A connection for a command of an operator; see `connected` for the errors.

    Raises `NoDeployment` if the server is an embedded one that was never made.
    """
    if settings.embedded_postgres and not settings.run_dir.exists():
        raise absence(settings)
    return connected(settings.database_dsn, _hint(settings))


def _hint(settings: Settings) -> str:
    if settings.embedded_postgres:
        return "See `bisnesctl status`, and its log: `bisnesctl logs postgres`"
    return f"See {settings.where('database_url')}"


def check_usable(settings: Settings) -> None:
    """Raises `DatabaseUnavailable`, or `ConfigError` if the database or a pooler in front of it is unsuitable."""
    with translated(_hint(settings), settings.database_dsn):
        pooler.check(settings.database_dsn, CONNECT_TIMEOUT_SECONDS)


def allowed_connections(connection: Connection) -> int:
    """Connections that the server allows to users who are not superusers."""
    found = query(
        connection,
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int",
    )
    return int(found[0][0])


def query(connection: Connection, statement: str, values: Any = None) -> list[Row]:
    """Runs a statement and returns its rows, if any. `%` is a placeholder only if there are values."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def containing(text: str | None) -> str | None:
    """The pattern of LIKE for values that contain the text as it is; None for None."""
    if text is None:
        return None
    escaped = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


def misread_url(dsn: str) -> str:
    """The mistake in a URL that libpq reads otherwise than it was meant; empty if there is none.

    libpq's own message would repeat parts of the password.
    """
    if not dsn.startswith("postgres") or not addresses.ends_early(dsn, "/"):
        return ""
    return f"the user or password in DATABASE_URL has characters that end it: {addresses.ENCODE}"


@contextlib.contextmanager
def translated(hint: str, dsn: str = "") -> Iterator[None]:
    """Turns errors of psycopg2 into those of `connected`. `dsn`: the URL that was used."""
    try:
        yield
    except statement_deadline.UnsuitableServer as error:
        raise ConfigError(f"{_first_line(error)}. {hint}") from error
    except (refusals.UndefinedTable, refusals.UndefinedColumn) as error:
        raise MigrationsPending(f"{_first_line(error)}: run `bisnesctl migrate` first") from error
    except refusals.InsufficientPrivilege as error:
        raise ConfigError(f"{_first_line(error)}: name a user with this permission in DATABASE_URL") from error
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        if error.pgcode is None and (mistake := misread_url(dsn)):
            raise ConfigError(mistake) from None
        raise DatabaseUnavailable(f"{_describe(error)}. {hint}") from error
    except refusals.ReadOnlySqlTransaction as error:
        raise DatabaseUnavailable(
            f"PostgreSQL cannot store because it is read-only (possibly a standby). {hint}"
        ) from error
    except psycopg2.ProgrammingError as error:
        if not str(error).startswith("invalid dsn"):
            raise
        # The reason would repeat the URL, password and all.
        mistake = misread_url(dsn) or "DATABASE_URL is not a libpq URL, such as postgresql://user:password@host/name"
        raise ConfigError(f"{mistake}. {hint}") from None


def _describe(error: psycopg2.Error) -> str:
    if isinstance(error, statement_deadline.StatementTimeout | statement_deadline.ConnectTimeout):
        return _first_line(error)
    what = "cannot be reached" if error.pgcode is None else "failed"
    return f"PostgreSQL {what}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
