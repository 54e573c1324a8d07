"""Whether PostgreSQL can store, for processes that are asked whether they are ready."""

import time

from bisnesctl.database.postgres import WRITE_TEST
from services.database.connection import Connection

#: Seconds for which a test that succeeded holds good: anybody may ask, as often as they like.
INTERVAL_SECONDS = 5.0


class WriteTest:
    """Tries it by writing something that is taken back."""

    def __init__(self) -> None:
        self._due = 0.0  # by time.monotonic()

    def check(self, connection: Connection) -> None:
        """Raises the `DatabaseError` that a message would meet."""
        if time.monotonic() >= self._due:
            with connection.cursor() as cursor:
                cursor.execute(WRITE_TEST)
            self._due = time.monotonic() + INTERVAL_SECONDS
