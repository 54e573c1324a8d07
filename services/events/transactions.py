"""Several statements as one, on a connection that commits each by itself otherwise."""

import contextlib
from collections.abc import Iterator
from typing import Any

from services.store import Connection, DatabaseError


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[Any]:
    """A cursor whose statements are committed together, or not at all where anything is raised."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(DatabaseError):  # a broken connection has rolled back already
                cursor.execute("ROLLBACK")
            raise
