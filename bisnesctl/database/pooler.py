"""Recognises a pooler, such as PgBouncer, that gives a connection another server for each transaction.

Locks, LISTEN and prepared statements belong to one server process, so such a pooler breaks them silently.
"""

import contextlib

import psycopg2

from bisnesctl.database import statement_deadline
from bisnesctl.database.statement_deadline import Connection, UnsuitableServer

#: Rounds of the check. The first one decides unless other clients use the pool at the same moment.
ROUNDS = 3

_MESSAGE = (
    "the pooler in front of PostgreSQL gives each transaction another connection, which breaks locks and LISTEN: "
    "set pool_mode = session for this database, or connect to PostgreSQL directly"
)


def check(dsn: str, seconds: int) -> None:
    """Raises `UnsuitableServer` if a pooler does not keep a server for each connection.

    `seconds`: to connect, and for each statement. Raises another psycopg2.Error if the server cannot be reached.
    """
    with contextlib.closing(statement_deadline.connect(dsn, seconds, seconds)) as session:
        if is_absent(session):
            return
        pid = _server_pid(session)
        for _ in range(ROUNDS):
            if _serves_another(dsn, seconds, pid) or _server_pid(session) != pid:
                raise UnsuitableServer(_MESSAGE)


def is_absent(connection: Connection) -> bool:
    """Whether there is no pooler: libpq knows the number of the server's process."""
    return _server_pid(connection) == connection.get_backend_pid()


def _serves_another(dsn: str, seconds: int, pid: int) -> bool:
    """Whether the server of a connection also serves a transaction of another one."""
    with contextlib.closing(statement_deadline.connect(dsn, seconds, seconds)) as other:
        other.autocommit = False
        try:
            return _server_pid(other) == pid
        except statement_deadline.StatementTimeout:
            return False  # all servers of the pool belong to connections
        except psycopg2.OperationalError as error:  # a pooler of statements refuses transactions
            raise UnsuitableServer(_MESSAGE) from error


def _server_pid(connection: Connection) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchall()[0][0])
