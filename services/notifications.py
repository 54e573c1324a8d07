"""PostgreSQL's announcements: what channels of LISTEN and NOTIFY tell, on a connection of its own."""

import select
import threading
from collections.abc import Iterator, Sequence

from services.store import Database

#: Seconds between two looks whether to stop.
PAUSE = 1.0


def notifications(database: Database, channels: Sequence[str], stopped: threading.Event) -> Iterator[bool]:
    """Whether anything was announced since the last time: at once (it may have been, before we listened), then with
    each announcement and at least every second, until `stopped` is set.

    Raises `DatabaseUnavailable` and `DatabaseError` where the connection breaks; start anew then.
    """
    connection = database.connect()
    try:
        with connection.cursor() as cursor:
            for channel in channels:
                cursor.execute(f"LISTEN {channel}")
        heard = True
        while not stopped.is_set():
            yield heard
            select.select([connection], [], [], PAUSE)
            connection.poll()
            heard = bool(connection.notifies)
            connection.notifies.clear()
    finally:
        connection.close()
