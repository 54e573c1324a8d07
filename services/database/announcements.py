"""Announcements of PostgreSQL (LISTEN and NOTIFY), for caches, the manager and the event sender."""

import select
import threading
from collections.abc import Iterator, Sequence

from services.database.connection import Database

#: Seconds for which `announcements` waits at most before it checks that the connection answers.
ANNOUNCEMENT_WAIT_SECONDS = 1.0


#: Seconds for that answer: a frozen connection announces nothing.
ANNOUNCEMENT_TIMEOUT_SECONDS = 2.0


def announcements(database: Database, channels: Sequence[str], stopped: threading.Event) -> Iterator[bool]:
    """Listen to channels of NOTIFY: yields whether anything was announced since the last time, until `stopped` is set.

    Yields True at once, since something may have been announced before, then with each announcement and at least every
    `ANNOUNCEMENT_WAIT_SECONDS`. Each time the connection has just answered. Raises `DatabaseUnavailable` and
    `DatabaseError` if it breaks or stops answering; call it again then.
    """
    connection = database.connect(seconds=ANNOUNCEMENT_TIMEOUT_SECONDS)
    try:
        with connection.cursor() as cursor:
            for channel in channels:
                cursor.execute(f"LISTEN {channel}")
            announced = True
            while not stopped.is_set():
                yield announced
                ready, _, _ = select.select([connection], [], [], ANNOUNCEMENT_WAIT_SECONDS)
                if ready:
                    connection.poll()
                else:
                    cursor.execute("SELECT 1")  # announcements arrive before its answer
                announced = bool(connection.notifies)
                connection.notifies.clear()
    finally:
        connection.close()
