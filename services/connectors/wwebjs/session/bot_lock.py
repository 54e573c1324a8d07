"""The advisory lock in PostgreSQL that keeps a bot from running twice, on any machine, for the life of a process."""

import contextlib

from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable

#: "wases" as a number; the bot's id follows.
LOCK_SPACE = 0x77617365


class BotLock:
    """The lock of one bot, held by a connection of its own."""

    def __init__(self, database: Database, bot_id: int) -> None:
        self._database = database
        self._bot_id = bot_id
        self._connection: Connection | None = None

    def acquire(self) -> bool:
        """Whether this process holds the lock now. Raises `DatabaseUnavailable`."""
        if self._connection is None:
            self._connection = self._database.connect()
        return self._query("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_SPACE, self._bot_id))

    def held(self) -> bool:
        """Whether this process still holds the lock. If the connection broke, it tries to acquire the lock again.

        False if another process holds it. Raises `DatabaseUnavailable` if that is not known.
        """
        with contextlib.suppress(DatabaseUnavailable):
            if self._connection is not None:
                return self._query("SELECT true")
        return self.acquire()

    def release(self) -> None:
        """Release the lock."""
        if self._connection is not None:
            with contextlib.suppress(DatabaseError):
                self._connection.close()
        self._connection = None

    def _query(self, query: str, values: tuple[int, ...] = ()) -> bool:
        assert self._connection is not None, "acquire() comes first"  # noqa: S101
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(query, values)
                return bool((cursor.fetchone() or (False,))[0])
        except DatabaseError as error:
            self.release()
            raise DatabaseUnavailable(str(error).strip()) from error
