"""Announcements of PostgreSQL (LISTEN and NOTIFY), for caches, the manager, the event sender and event streams."""

import contextlib
import os
import select
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence

import structlog

from services.database.connection import Database, DatabaseError, DatabaseUnavailable

#: Seconds after which a connection that announced nothing is asked whether it answers, while that matters.
ANNOUNCEMENT_WAIT_SECONDS = 1.0
#: The same while it does not matter: a broken connection is noticed at once, a frozen one then.
IDLE_WAIT_SECONDS = 30.0
#: Seconds for that answer: a frozen connection announces nothing.
ANNOUNCEMENT_TIMEOUT_SECONDS = 2.0

log = structlog.get_logger()


class Waker:
    """Ends the wait of another thread."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._event)

    def fileno(self) -> int:
        """For `select`."""
        return self._event

    def wake(self) -> None:
        """End a wait that is under way, or the next one. Safe for any thread."""
        os.eventfd_write(self._event, 1)

    def clear(self) -> None:
        """Wait again from now on."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)


class Listener:
    """Calls back at each announcement on a channel, and regularly in case one was lost."""

    def __init__(
        self, database: Database, channel: str, on_announcement: Callable[[], None],
        interval: Callable[[], float] = lambda: ANNOUNCEMENT_WAIT_SECONDS,
    ) -> None:  # fmt: skip
        """`on_announcement` is called on a thread of its own, and must neither wait nor raise. `interval`: seconds."""
        self._database, self._channel, self._on_announcement = database, channel, on_announcement
        self._interval = interval
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
                for _ in announcements(self._database, (self._channel,), self._stopped, self._interval):
                    self._on_announcement()
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("listener.disconnected", channel=self._channel, reason=str(error).strip())
            self._on_announcement()
            self._stopped.wait(ANNOUNCEMENT_WAIT_SECONDS)


def announcements(
    database: Database, channels: Sequence[str], stopped: threading.Event,
    interval: Callable[[], float] = lambda: ANNOUNCEMENT_WAIT_SECONDS, waker: Waker | None = None,
) -> Iterator[bool]:  # fmt: skip
    """Listen to channels of NOTIFY: yields whether anything was announced since the last time, until `stopped` is set.

    Yields True at once, since something may have been announced before, then with each announcement, with each call of
    the `waker`, and after an `interval`, in seconds. Each time the connection has just answered. Raises
    `DatabaseUnavailable` and `DatabaseError` if it breaks or stops answering; call it again then.
    """
    connection = database.connect(seconds=ANNOUNCEMENT_TIMEOUT_SECONDS)
    try:
        with connection.cursor() as cursor:
            for channel in channels:
                cursor.execute(f"LISTEN {channel}")
            announced = True
            while not stopped.is_set():
                yield announced
                sources = [connection.fileno(), *([waker.fileno()] if waker else [])]
                ready, _, _ = select.select(sources, [], [], max(interval(), 0.0))
                if waker:
                    waker.clear()
                if sources[0] in ready:
                    connection.poll()
                else:
                    cursor.execute("SELECT 1")  # announcements arrive before its answer
                announced = bool(connection.notifies)
                connection.notifies.clear()
    finally:
        connection.close()
