"""What the pages are told, and how they wait for it."""

import sqlite3
import threading
from typing import Any

import orjson

from services.sandbox.database import Database

_TELL = "INSERT INTO news (to_whom, body) VALUES (?, ?)"
_AFTER = "SELECT seq, body FROM news WHERE to_whom IN (?, ?) AND seq > ? ORDER BY seq LIMIT 500"
_PRUNE = "DELETE FROM news WHERE seq <= (SELECT max(seq) FROM news) - ?"
_LATEST = "SELECT coalesce(max(seq), 0) AS seq FROM news"


#: Pieces of news that are kept over a restart: pages that are open are not further behind.
_KEPT = 20_000


class PageUpdates:
    """Safe for threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = threading.Condition()
        self._turn = 0
        with database.transaction() as connection:
            connection.execute(_PRUNE, (_KEPT,))

    @property
    def turn(self) -> int:
        """Grows with every change that is worth a look."""
        return self._turn

    def tell(self, connection: sqlite3.Connection, to_whom: str, **body: Any) -> None:
        """Tell the pages of a number, or of one device, within a transaction; `wake` them when it holds."""
        connection.execute(_TELL, (to_whom, orjson.dumps(body).decode()))

    def after(self, device: str, number: str, seq: int) -> tuple[list[dict[str, Any]], int]:
        """What was told to them after `seq`, and the number of the last."""
        rows = self._database.rows(_AFTER, (device, number, seq))
        return [orjson.loads(row["body"]) for row in rows], rows[-1]["seq"] if rows else seq

    def latest(self) -> int:
        """The number of the last."""
        return int(self._database.rows(_LATEST)[0]["seq"])

    def wake(self) -> None:
        """Something changed."""
        with self._changed:
            self._turn += 1
            self._changed.notify_all()

    def wait(self, turn: int, seconds: float) -> None:
        """Wait until there was a change after that turn, but not longer than this."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn != turn, seconds)
