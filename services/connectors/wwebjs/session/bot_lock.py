"""One number never runs twice: an advisory lock of PostgreSQL, held for a process's life, on any machine."""

import contextlib

from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable

#: "wases" as a number, in front of the bot's.
LOCK_SPACE = 0x77617365


class BotLock:
    """Held by a connection of its own."""

    def __init__(self, database: Database, bot_id: int) -> None:
        self._database, self._bot_id = database, bot_id
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Whether it is ours now. Raises `DatabaseUnavailable`."""
        if self._connection is None:
            self._connection = self._database.connect()
        return self._ask("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_SPACE, self._bot_id))

    def held(self) -> bool:
        """Whether it still is ours: the connection that holds it lives, or it was taken anew.

        False where another process has it. Raises `DatabaseUnavailable` where that cannot be known.
        """
        with contextlib.suppress(DatabaseUnavailable):
            if self._connection is not None:
                return self._ask("SELECT true")
        return self.take()

    def release(self) -> None:
        """Let another process have it."""
        if self._connection is not None:
            with contextlib.suppress(DatabaseError):
                self._connection.close()
        self._connection = None

    def _ask(self, question: str, values: tuple[int, ...] = ()) -> bool:
        assert self._connection is not None, "take() comes first"  # noqa: S101
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(question, values)
                return bool((cursor.fetchone() or (False,))[0])
        except DatabaseError as error:
            self.release()
            raise DatabaseUnavailable(str(error).strip()) from error
