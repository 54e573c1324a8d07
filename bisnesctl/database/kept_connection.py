"""A connection for work that is repeated every few seconds: PostgreSQL starts a process for each new one."""

import contextlib
import time
from collections.abc import Iterator

import psycopg2

from bisnesctl.database import postgres, statement_deadline
from bisnesctl.database.postgres import Connection

#: Seconds after which it is opened again, so that its process returns its memory.
RENEWAL_SECONDS = 900.0


class KeptConnection:
    """It is opened when it is first used, and again when it broke, is old, or another database is meant."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._url = ""
        self._opened = 0.0

    @contextlib.contextmanager
    def connected(self, url: str, seconds: int) -> Iterator[Connection]:
        """The connection, in autocommit and not closed at the end. Each statement may take this many seconds.

        Raises psycopg2.Error if there is none.
        """
        connection = self._usable(url, seconds)
        try:
            yield connection
        except psycopg2.OperationalError:
            self.close()
            raise
        finally:
            if connection.closed:
                self.close()

    def _usable(self, url: str, seconds: int) -> Connection:
        if url != self._url or time.monotonic() > self._opened + RENEWAL_SECONDS:
            self.close()
        if self._connection is not None:
            try:
                return self._limited(self._connection, seconds)
            except psycopg2.Error:  # PostgreSQL was restarted, for instance
                self.close()
        opened = statement_deadline.connect(url, seconds, seconds + 1.0, application_name="bisnesctl")
        self._connection, self._url, self._opened = opened, url, time.monotonic()
        return self._limited(opened, seconds)

    def _limited(self, connection: Connection, seconds: int) -> Connection:
        connection.statement_seconds = seconds + 1.0  # the server's own limit comes first
        postgres.query(connection, "SET statement_timeout = %s", (seconds * 1000,))
        return connection

    def close(self) -> None:
        """Closes it; the next use opens it again."""
        if self._connection is not None:
            with contextlib.suppress(psycopg2.Error):
                self._connection.close()
        self._connection = None
