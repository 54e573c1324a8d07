"""Connections to PostgreSQL with a deadline for each statement on the client side.

The server enforces `statement_timeout`. A server that is stopped, or behind a broken network, never reports it, and
libpq would wait for ever. So a thread shuts down the sockets of overdue statements, which ends the wait. It sleeps
until the first deadline of those that run; most are over long before that.
"""

import contextlib
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2
import psycopg2.extensions

from bisnesctl.database import session_settings

#: Seconds for a statement, unless the connection sets another limit.
STATEMENT_TIMEOUT_SECONDS = 30.0
#: libpq's settings that detect a broken network; they have no effect on unix sockets.
_NETWORK = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}


class StatementTimeout(psycopg2.OperationalError):
    """PostgreSQL did not answer a statement in time. The connection is closed; the statement may have been run."""


class ConnectTimeout(psycopg2.OperationalError):
    """PostgreSQL neither accepted nor refused a connection in time."""


class UnsuitableServer(psycopg2.OperationalError):
    """The database, an option of the connection or the pooler in front of it must be changed."""


class DeadlineCursor(psycopg2.extensions.cursor):
    """A cursor of a `Connection`; must be the first base class of other cursors."""

    connection: "Connection"

    def execute(self, query: Any, vars: Any = None) -> None:
        """Runs statements. Raises `StatementTimeout` without an answer in time."""
        connection = self.connection  # the same as `deadline`, but some microseconds faster
        connection.overdue_at = overdue_at = time.monotonic() + connection.statement_seconds
        if overdue_at < _overdue.next_look:
            _overdue.look_at(overdue_at)
        try:
            super().execute(query, vars)
        except psycopg2.Error as error:
            connection.explain(error)
            raise
        finally:
            connection.overdue_at = None


class Connection(psycopg2.extensions.connection):
    """A connection that is closed when a statement takes longer than `statement_seconds`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = DeadlineCursor
        self.statement_seconds = STATEMENT_TIMEOUT_SECONDS
        self.overdue_at: float | None = None  # while a statement runs
        #: The server's process; behind a pooler, libpq knows another number.
        self.server_pid = self.get_backend_pid()
        self._timed_out = False
        # A duplicate: libpq may close its descriptor at any moment, and then the number may mean another file.
        descriptor = os.dup(self.fileno())
        self._socket = socket.socket(fileno=descriptor)
        self._release = weakref.finalize(self, self._socket.close)
        _overdue.watch(self)

    @contextlib.contextmanager
    def deadline(self) -> Iterator[None]:
        """Within it, the server must answer in `statement_seconds`. Raises `StatementTimeout`."""
        self.overdue_at = overdue_at = time.monotonic() + self.statement_seconds
        if overdue_at < _overdue.next_look:
            _overdue.look_at(overdue_at)
        try:
            yield
        except psycopg2.Error as error:
            self.explain(error)
            raise
        finally:
            self.overdue_at = None

    def explain(self, error: psycopg2.Error) -> None:
        """Raises `StatementTimeout` if that caused the error."""
        if self._timed_out:
            self.close()
            raise StatementTimeout(self._explanation()) from error

    @contextlib.contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Within it, each statement may take this many seconds."""
        usual, self.statement_seconds = self.statement_seconds, seconds
        try:
            yield
        finally:
            self.statement_seconds = usual

    def abort(self) -> None:
        """Ends a running statement from another thread; the connection is closed."""
        self._timed_out = True
        with contextlib.suppress(OSError):  # the connection broke already
            self._socket.shutdown(socket.SHUT_RDWR)

    def commit(self) -> None:
        """Raises `StatementTimeout`."""
        with self.deadline():
            super().commit()

    def rollback(self) -> None:
        """Raises `StatementTimeout`. Does nothing after an earlier timeout, because the server rolls back by itself."""
        if self._timed_out:
            return
        with self.deadline():
            super().rollback()

    def close(self) -> None:
        """Closes the connection and the duplicate of its socket."""
        super().close()
        self._release()

    def _explanation(self) -> str:
        if self.statement_seconds == float("inf"):  # see `while_answering`
            return "PostgreSQL stopped answering, even to new connections"
        return f"PostgreSQL did not answer a statement within {self.statement_seconds:g} s"


def connect(
    dsn: str,
    connect_seconds: int,
    statement_seconds: float,
    session: Mapping[str, str] | None = None,
    **options: Any,
) -> Connection:
    """A connection in autocommit, for the tool and the services alike.

    `session`: settings of the server for this connection, which take precedence over `options` of the URL; `options`:
    those of libpq; `connection_factory`: a subclass of `Connection`.

    Raises `ConnectTimeout` without an answer within `connect_seconds` for each address of the server,
    `UnsuitableServer` if the database or an option is unusable, and another psycopg2.OperationalError if the server
    refuses.
    """
    given = psycopg2.extensions.parse_dsn(dsn)
    own, rest = session_settings.parse_options(given.get("options", os.environ.get("PGOPTIONS", "")))
    network = {name: value for name, value in _NETWORK.items() if name not in given}
    fixed = {"connect_timeout": connect_seconds, "client_encoding": "UTF8", "options": rest}
    too_late = f"PostgreSQL did not accept a connection within {connect_seconds} s"
    try:
        connection: Connection = psycopg2.connect(dsn, **{"connection_factory": Connection} | network | options | fixed)
    except psycopg2.OperationalError as error:
        if "timeout expired" not in str(error):
            raise
        raise ConnectTimeout(too_late) from error
    try:
        connection.statement_seconds = connect_seconds
        connection.autocommit = True
        _prepare(connection, own | dict(session or {}))
    except StatementTimeout as error:
        raise ConnectTimeout(too_late) from error
    except BaseException:
        connection.close()
        raise
    connection.statement_seconds = statement_seconds
    return connection


def _prepare(connection: Connection, session: Mapping[str, str]) -> None:
    """Checks the encoding and applies settings, which a pooler would refuse at the start of a connection."""
    encoding = connection.get_parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        name = connection.info.dbname
        raise UnsuitableServer(
            f"the database {name} has the encoding {encoding}, which cannot store every message: create one with "
            f"`CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0`"
        )
    if not session:
        return
    with connection.cursor() as cursor:
        try:
            cursor.execute(*session_settings.statement(session))
        except (psycopg2.ProgrammingError, psycopg2.DataError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UnsuitableServer(f"PostgreSQL refuses an option of the connection: {reason}") from error
        (connection.server_pid,) = cursor.fetchall()[0][-1:]


class _OverdueStatements:
    """Ends overdue statements of all connections of the process."""

    def __init__(self) -> None:
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_earlier = threading.Event()
        #: When it looks next, by the monotonic clock: not after the first deadline of the statements that run.
        self.next_look = math.inf

    def watch(self, connection: Connection) -> None:
        """Watches a connection as long as it exists."""
        with self._lock:
            self._connections.add(connection)
            if self._thread is None or not self._thread.is_alive():  # after a fork, the child does not have the thread
                self._is_earlier = threading.Event()
                self._thread = threading.Thread(target=self._watch_forever, name="overdue-statements", daemon=True)
                self._thread.start()

    def look_at(self, moment: float) -> None:
        """Looks at this time at the latest. A statement must have set its deadline before it calls this."""
        with self._lock:
            if moment < self.next_look:
                self.next_look = moment
                self._is_earlier.set()

    def _watch_forever(self) -> None:
        while True:
            self._look()
            while (left := self.next_look - time.monotonic()) > 0:
                self._is_earlier.wait(None if left == math.inf else left)
                self._is_earlier.clear()

    def _look(self) -> None:
        self.next_look = math.inf  # a statement that begins from now on calls `look_at`; the others are seen below
        with self._lock:
            connections = list(self._connections)
        now, first = time.monotonic(), math.inf
        for connection in connections:
            overdue_at = connection.overdue_at
            if overdue_at is None:
                continue
            if overdue_at <= now:
                connection.abort()
            else:
                first = min(first, overdue_at)
        self.look_at(first)


_overdue = _OverdueStatements()


@contextlib.contextmanager
def while_answering(connection: Connection, dsn: str, seconds: int) -> Iterator[None]:
    """Within it, statements may take any time, as long as the server accepts connections within `seconds`.

    Meant for statements of unknown duration, such as those that build an index.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            try:
                connect(dsn, seconds, seconds).close()
            except ConnectTimeout:
                if not ended.is_set():
                    connection.abort()
                    return
            except psycopg2.Error:
                continue  # a refusal is an answer too

    watcher = threading.Thread(target=watch, name="server-answers", daemon=True)
    watcher.start()
    try:
        with connection.limited(float("inf")):
            yield
    finally:
        ended.set()
