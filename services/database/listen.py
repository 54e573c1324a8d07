"""PostgreSQL's announcements: what is sent to channels of LISTEN and NOTIFY, on a connection of its own."""

import select
import threading
from collections.abc import Iterator, Sequence

from services.database.connection import Database

#: Seconds between two looks whether to stop.
PAUSE = 1.0
#: Seconds in which the connection must answer, after each silent pause: one that is frozen announces nothing.
ANSWER_SECONDS = 2.0


def notifications(database: Database, channels: Sequence[str], stopped: threading.Event) -> Iterator[bool]:
    """Whether anything was announced since the last time: at once (it may have been, before we listened), then with
    each announcement and at least every `PAUSE`, until `stopped` is set. Each time the connection has just answered.

    Raises `DatabaseUnavailable` and `DatabaseError` where the connection breaks or stops answering; start anew then.
    """
    connection = database.connect(seconds=ANSWER_SECONDS)
    try:
        with connection.cursor() as cursor:
            for channel in channels:
                cursor.execute(f"LISTEN {channel}")
            heard = True
            while not stopped.is_set():
                yield heard
                ready, _, _ = select.select([connection], [], [], PAUSE)
                if ready:
                    connection.poll()
                else:
                    cursor.execute("SELECT 1")  # announcements arrive before its answer
                heard = bool(connection.notifies)
                connection.notifies.clear()
    finally:
        connection.close()
