"""Announcements of PostgreSQL (LISTEN and NOTIFY), for caches, the manager, the event sender and event streams."""

import select
import threading
from collections.abc import Callable, Iterator, Sequence

import structlog

from services.database.connection import Database, DatabaseError, DatabaseUnavailable

#: Seconds for which `announcements` waits at most before it checks that the connection answers.
ANNOUNCEMENT_WAIT_SECONDS = 1.0
#: Seconds for that answer: a frozen connection announces nothing.
ANNOUNCEMENT_TIMEOUT_SECONDS = 2.0

log = structlog.get_logger()


class Listener:
    """Calls back at each announcement on a channel, and every second in case one was lost or work became due."""

    def __init__(self, database: Database, channel: str, on_announcement: Callable[[], None]) -> None:
        """`on_announcement` is called on a thread of its own, and must neither wait nor raise."""
        self._database, self._channel, self._on_announcement = database, channel, on_announcement
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to listen; returns at once."""
        threading.Thread(target=self._listen_until_stopped, name="listener", daemon=True).start()

    def stop(self) -> None:
        """Stop calling back."""
        self._stopped.set()

    def _listen_until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                for _ in announcements(self._database, (self._channel,), self._stopped):
                    self._on_announcement()
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("listener.disconnected", channel=self._channel, reason=str(error).strip())
            self._on_announcement()
            self._stopped.wait(ANNOUNCEMENT_WAIT_SECONDS)


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
