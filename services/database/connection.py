"""Connections to PostgreSQL: a bounded pool, single connections, transactions, queries, prepared statements."""

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from uuid import UUID

import psycopg2
import psycopg2.errors

from bisnesctl.database import statement_deadline
from services.database.circuit_breaker import CircuitBreaker
from services.database.pool import Pool, PoolTimeout, PoolUse

#: Seconds to wait for a connection of the pool, and for a new one to be made.
CONNECT_TIMEOUT_SECONDS = 3
#: Seconds for the answer to a statement of a pooled connection.
POOLED_TIMEOUT_SECONDS = 12.0
#: Seconds for the answer to a statement of a thread's own connection.
OWN_TIMEOUT_SECONDS = 20.0
#: Seconds for the answer to the check before each use of a pooled connection.
PING_TIMEOUT_SECONDS = 2.0
#: Milliseconds for a statement of a pooled connection, enforced by the server.
SERVER_TIMEOUT_MS = 10_000
#: Seconds that a server process has to end itself after `end_backends`.
BACKEND_END_SECONDS = 2.0
#: Seconds between two looks whether it has ended.
BACKEND_POLL_SECONDS = 0.02
#: Seconds after a connection timed out in which no other is tried.
OUTAGE_PAUSE_SECONDS = 1.0

#: Joins with a list of keys must go through the primary key, in the list's order, although the statistics of a churning
#: table may suggest another plan; that order also prevents deadlocks of concurrent writers.
KEY_PLANS = {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off"}
#: For every connection: prepared statements are planned once, since planning takes as long as running them.
PLANNING = {"jit": "off", "plan_cache_mode": "force_generic_plan"}

DatabaseError = psycopg2.Error
Row = tuple[Any, ...]


class Connection(statement_deadline.Connection):
    """A connection that knows which statements it has prepared; every statement has a deadline."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.prepared: set[str] = set()
        self.opened = time.monotonic()


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached; nothing was stored."""


class Database:
    """Connections to PostgreSQL in autocommit: a bounded pool, and single ones for a thread that keeps its own."""

    def __init__(self, dsn: str, pool_size: int = 5, name: str = "bisnes") -> None:
        self.dsn, self.name, self._size = dsn, name, pool_size
        self._outage = CircuitBreaker(OUTAGE_PAUSE_SECONDS, CONNECT_TIMEOUT_SECONDS + PING_TIMEOUT_SECONDS)
        self._pool = Pool(self._open, _answers, pool_size, CONNECT_TIMEOUT_SECONDS)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """A pooled connection in autocommit. Raises `DatabaseUnavailable` when there is none or it breaks in use."""
        self._check_outage()
        try:
            connection = self._pool.borrow()
        except PoolTimeout:
            raise DatabaseUnavailable(
                f"all {self._size} connections to PostgreSQL were in use for {CONNECT_TIMEOUT_SECONDS} s"
            ) from None
        except psycopg2.OperationalError as error:
            raise DatabaseUnavailable(str(error).strip()) from error
        self._outage.end()
        broken = False
        try:
            yield connection
        except psycopg2.Error as error:
            broken = is_broken(connection, error)
            if not broken:
                raise
            if isinstance(error, psycopg2.errors.ReadOnlySqlTransaction):
                self._pool.distrust()  # the others may lead to the same server, or keep its read-only default
            raise DatabaseUnavailable(str(error).strip()) from error
        finally:
            self._pool.give_back(connection, broken)

    def connect(
        self, by_key: bool = True, seconds: float = OWN_TIMEOUT_SECONDS, session: Mapping[str, str] | None = None
    ) -> Connection:
        """A connection of the caller's own, in autocommit. Raises `DatabaseUnavailable`.

        `by_key`: with `KEY_PLANS`; `seconds`: for the answer to a statement; `session`: further settings of the server.
        """
        self._check_outage()
        try:
            return self._open((KEY_PLANS if by_key else {}) | dict(session or {}), seconds)
        except psycopg2.OperationalError as error:
            raise DatabaseUnavailable(str(error).strip()) from error

    def _check_outage(self) -> None:
        if reason := self._outage.refusal():
            raise DatabaseUnavailable(reason)

    def _open(
        self,
        session: Mapping[str, str] = KEY_PLANS | {"statement_timeout": str(SERVER_TIMEOUT_MS)},
        seconds: float = POOLED_TIMEOUT_SECONDS,
    ) -> Connection:
        try:
            connection = statement_deadline.connect(
                self.dsn,
                CONNECT_TIMEOUT_SECONDS,
                seconds,
                application_name=self.name,
                session={**PLANNING, **session},
                connection_factory=Connection,
            )
        except statement_deadline.ConnectTimeout as error:
            self._outage.begin(str(error))
            raise
        except psycopg2.OperationalError:
            self._outage.end()  # it answers, if only with a refusal
            raise
        self._outage.end()
        return connection  # type: ignore[return-value]

    def use(self) -> PoolUse:
        """The use of the pool at this moment."""
        return self._pool.use()

    def close(self) -> None:
        """Close the pool's idle connections."""
        self._pool.close()


def _answers(connection: Connection) -> bool:
    try:
        with connection.limited(PING_TIMEOUT_SECONDS):
            query(connection, "SELECT 1")
    except psycopg2.Error:
        return False
    return True


def is_broken(connection: Any, error: psycopg2.Error) -> bool:
    """Whether the error is the connection's, not the statement's.

    psycopg2 reports that by OperationalError or InterfaceError, and by the bare DatabaseError if libpq had no SQLSTATE.
    A server that has become read-only counts as well: another connection may lead to the one that took over.
    """
    bare = type(error) is psycopg2.DatabaseError
    if isinstance(error, psycopg2.errors.ReadOnlySqlTransaction):
        return True
    return bare or isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or bool(connection.closed)


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[Any]:
    """A cursor whose statements are committed together, or not at all if anything is raised."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(DatabaseError):  # a broken connection has rolled back already
                cursor.execute("ROLLBACK")
            raise


def query(connection: Connection, statement: str, values: Any = None) -> list[Row]:
    """Run a statement and return its rows, none if it has none. `%` is special only with values."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def query_one(connection: Connection, statement: str, values: Any = None) -> Row | None:
    """Run a statement and return its first row, if there is one."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row: Row | None = cursor.fetchone()
        return row


def query_value(connection: Connection, statement: str, values: Any = None) -> Any:
    """Run a statement and return the first column of its first row; None if it has no row."""
    row = query_one(connection, statement, values)
    return row[0] if row else None


class Statement:
    """A statement of the hot path, prepared once by each connection."""

    def __init__(self, name: str, text: str, **types: str) -> None:
        """`types`: the SQL type of each parameter that the text names."""
        numbers = {parameter: f"${number}" for number, parameter in enumerate(types, 1)}
        self.prepare = f"PREPARE {name} ({', '.join(types.values())}) AS {text % numbers}"
        self.execute = f"EXECUTE {name} ({', '.join(f'%({each})s::{kind}' for each, kind in types.items())})"


def run(connection: Connection, *steps: tuple[Statement, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Run statements in one transaction and round trip; returns the rows of the last one."""
    with connection.cursor() as cursor:
        for step, _ in steps:
            if step.prepare not in connection.prepared:
                cursor.execute(step.prepare)
                connection.prepared.add(step.prepare)
        cursor.execute(b";".join(cursor.mogrify(step.execute, values) for step, values in steps))
        return cursor.fetchall() if cursor.description else []


def clock(connection: Connection) -> float:
    """The database's time, in seconds since the epoch."""
    return float(query_value(connection, "SELECT extract(epoch FROM clock_timestamp())::float"))


# A backend of ours is known by its number together with our name, since numbers are used again.
_BACKENDS = "FROM pg_stat_activity WHERE pid = ANY(%s) AND application_name = %s AND usename = current_user"


def end_backends(connection: Connection, pids: Collection[int]) -> None:
    """End the server's processes of connections that were abandoned, so that they commit nothing any more.

    Waits a moment for those that are committing. A process that is frozen ends when it continues.
    """
    if not pids:
        return
    of_ours = (list(pids), connection.info.parameter_status("application_name"))
    deadline = time.monotonic() + BACKEND_END_SECONDS
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) {_BACKENDS}", of_ours)
        while cursor.fetchall() and time.monotonic() < deadline:
            time.sleep(BACKEND_POLL_SECONDS)
            cursor.execute(f"SELECT pid {_BACKENDS}", of_ours)


def as_uuid(text: str) -> str | None:
    """The text if it is a uuid, for a comparison that finds nothing otherwise."""
    try:
        return str(UUID(text))
    except ValueError:
        return None
