"""Commands for a running session: rows of `wa_command`, which survive the process that wrote them."""

import time
from typing import Any

import orjson

from services.database.connection import Connection, Database
from services.wakeups import Notifier, session_queue

#: The pause between two looks for an answer.
POLL_SECONDS = 0.1

_SEND = "INSERT INTO wa_command (bot_id, command, arguments) VALUES (%s, %s, %s) RETURNING id"
_ANSWER = "SELECT answer, error FROM wa_command WHERE id = %s AND done_at IS NOT NULL"


class CommandFailed(Exception):
    """The session could not carry the command out; the text says why."""


def send(connection: Connection, notifier: Notifier, bot_id: int, command: str, arguments: dict[str, Any]) -> int:
    """Send a command to a bot's session; returns its id. If the session does not run, it follows when it starts."""
    with connection.cursor() as cursor:
        cursor.execute(_SEND, (bot_id, command, orjson.dumps(arguments).decode()))
        (command_id,) = cursor.fetchone()  # type: ignore[misc]
    notifier.notify(session_queue(bot_id))
    return int(command_id)


def answer(database: Database, command_id: int, seconds: float) -> dict[str, Any] | None:
    """The session's answer, or None if there is none within `seconds`. No connection is held meanwhile.

    Raises `CommandFailed` if the session could not carry the command out.
    """
    deadline = time.monotonic() + seconds
    while (row := _find(database, command_id)) is None:
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL_SECONDS)
    found, error = row
    if error is not None:
        raise CommandFailed(error)
    return found or {}


def _find(database: Database, command_id: int) -> tuple[dict[str, Any] | None, str | None] | None:
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(_ANSWER, (command_id,))
        return cursor.fetchone()
