"""What a running session is told to do: rows of `wa_command`, which survive whoever wrote them."""

import time
from typing import Any

import orjson

from services.database.connection import Connection, Database
from services.wakeups import Notifier, session_queue

#: Seconds between two looks for an answer.
PAUSE = 0.1

_SEND = "INSERT INTO wa_command (bot_id, command, arguments) VALUES (%s, %s, %s) RETURNING id"
_ANSWER = "SELECT answer, error FROM wa_command WHERE id = %s AND done_at IS NOT NULL"


class CommandFailed(Exception):
    """The session could not do it; the text says why."""


def send(connection: Connection, hints: Notifier, bot_id: int, command: str, arguments: dict[str, Any]) -> int:
    """Tell a bot's session to do something and return the command's id. One that does not run does it at its start."""
    with connection.cursor() as cursor:
        cursor.execute(_SEND, (bot_id, command, orjson.dumps(arguments).decode()))
        (number,) = cursor.fetchone()  # type: ignore[misc]
    hints.notify(session_queue(bot_id))
    return int(number)


def answer(database: Database, command_id: int, seconds: float) -> dict[str, Any] | None:
    """What the session answered within that time, or None; no connection is kept meanwhile.

    Raises `CommandFailed` where it could not do it.
    """
    deadline = time.monotonic() + seconds
    while (row := _look(database, command_id)) is None:
        if time.monotonic() >= deadline:
            return None
        time.sleep(PAUSE)
    found, error = row
    if error is not None:
        raise CommandFailed(error)
    return found or {}


def _look(database: Database, command_id: int) -> tuple[dict[str, Any] | None, str | None] | None:
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(_ANSWER, (command_id,))
        return cursor.fetchone()
