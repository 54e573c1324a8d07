"""Updates for pages, which poll for them: messages, acknowledgements, faults."""

import sqlite3
import threading
from typing import Any

import orjson

from services.sandbox.database import Database

#: Updates that are kept over a restart. Open pages are never further behind.
MAX_KEPT_UPDATES = 20_000

_ADD = "INSERT INTO page_update (audience, body) VALUES (?, ?)"
_AFTER = "SELECT seq, body FROM page_update WHERE audience IN (?, ?) AND seq > ? ORDER BY seq LIMIT 500"
_PRUNE = "DELETE FROM page_update WHERE seq <= (SELECT max(seq) FROM page_update) - ?"
_LATEST = "SELECT coalesce(max(seq), 0) AS seq FROM page_update"


class PageUpdates:
    """The table of updates, and the wake-ups of the polls that wait for more. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = threading.Condition()
        self._changes = 0
        with database.transaction() as connection:
            connection.execute(_PRUNE, (MAX_KEPT_UPDATES,))

    @property
    def changes(self) -> int:
        """How many changes there were: `wait` waits for the next one."""
        return self._changes

    def add(self, connection: sqlite3.Connection, audience: str, **body: Any) -> None:
        """Add an update for the pages of a number or of one device. Call `wake` after the transaction."""
        connection.execute(_ADD, (audience, orjson.dumps(body).decode()))

    def after(self, device: str, number: str, seq: int) -> tuple[list[dict[str, Any]], int]:
        """The updates of a device and its number after `seq`, and the number of the last one."""
        rows = self._database.rows(_AFTER, (device, number, seq))
        return [orjson.loads(row["body"]) for row in rows], rows[-1]["seq"] if rows else seq

    def latest_seq(self) -> int:
        """The number of the last update."""
        return int(self._database.rows(_LATEST)[0]["seq"])

    def wake(self) -> None:
        """Wake all polls."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def wait(self, changes: int, seconds: float) -> None:
        """Wait until there were more changes than these, for N seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes != changes, seconds)
