"""Whether PostgreSQL can store, for the readiness of processes."""

import time

from bisnesctl.database.postgres import WRITE_TEST
from services.database.connection import Connection, query

#: Seconds for which a successful test is valid: anybody may ask, as often as they like.
WRITE_TEST_VALID_SECONDS = 5.0


class WriteTest:
    """Writes something that is rolled back."""

    def __init__(self) -> None:
        self._due = 0.0  # by time.monotonic()

    def check(self, connection: Connection) -> None:
        """Raises the `DatabaseError` that a message would meet."""
        if time.monotonic() >= self._due:
            query(connection, WRITE_TEST)
            self._due = time.monotonic() + WRITE_TEST_VALID_SECONDS
