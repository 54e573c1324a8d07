"""The wake-up of workers: the commit that stores messages announces them, and the worker on call looks for them.

All workers of a channel receive an announcement, on the connection on which they claim. If all of them looked, they
would wait for one another and most would find nothing. So one of each side is on call: it holds an advisory lock, which
ends with its connection. The others look once a second, and follow announcements for some seconds after they found
messages that the one on call had left.

An announcement has no content and may be lost.
"""

import time
from typing import TYPE_CHECKING

import structlog

from bisnesctl.bots.ownership import Side
from services.database.connection import Connection, query, query_value
from services.outbox.accept import announced_on

if TYPE_CHECKING:
    from services.http_client import RequestsInFlight

#: The first half of the advisory locks' numbers: "call" as a number.
LOCK_SPACE = 0x63616C6C
#: Seconds for which a worker helps the one on call after that one left messages.
HELP_SECONDS = 5.0
#: Seconds between two looks of a worker that is not on call whether it can be.
LOCK_INTERVAL_SECONDS = 1.0

log = structlog.get_logger()


class OnCall:
    """The announcements that one worker receives. One thread calls it, but for `help`."""

    def __init__(self, channel: str, side: Side | None, window: "RequestsInFlight") -> None:
        """One worker of each side is on call. An announcement ends the waits of `window`."""
        self._channel, self._side, self._window = channel, side, window
        self._connection: Connection | None = None
        self._has_lock = False
        self._next_look = 0.0  # for the lock, in monotonic seconds
        self._helps_until = 0.0  # in monotonic seconds

    def listen(self, connection: Connection) -> None:
        """Receive announcements on this connection from now on, until it is closed."""
        query(connection, f"LISTEN {announced_on(self._channel)}")
        self._connection, self._has_lock = connection, False
        self._window.watch(connection.fileno())
        self._try_lock(connection)

    def leave(self) -> None:
        """Receive nothing any more; the connection is about to be closed."""
        self._connection, self._has_lock = None, False
        self._window.watch(None)

    def resign(self) -> None:
        """Let another worker be on call: this one claims nothing for now."""
        self._next_look = time.monotonic() + LOCK_INTERVAL_SECONDS
        if self._has_lock and self._connection is not None:
            query(self._connection, "SELECT pg_advisory_unlock_all()")
            self._has_lock = False

    def help(self) -> None:
        """Follow announcements like the one on call for some time. Safe for threads."""
        self._helps_until = time.monotonic() + HELP_SECONDS

    def wait(self) -> None:
        """Wait for an announcement, or a call of the window's `interrupt`."""
        self._window.wait(None if self._has_lock else LOCK_INTERVAL_SECONDS)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection on which announcements arrive."""
        return self._connection is not None

    def is_announced(self) -> bool:
        """Whether to look for messages. Raises `DatabaseError` if the connection broke."""
        connection = self._connection
        if connection is None:
            return False
        if self._window.is_watched_readable():
            connection.poll()
        announced = bool(connection.notifies)
        connection.notifies.clear()
        now = time.monotonic()
        if not self._has_lock and now >= self._next_look:
            announced |= self._try_lock(connection)
        return announced and (self._has_lock or now < self._helps_until)

    def _try_lock(self, connection: Connection) -> bool:
        self._next_look = time.monotonic() + LOCK_INTERVAL_SECONDS
        lock = (LOCK_SPACE, f"{self._channel} {self._side}")
        self._has_lock = bool(query_value(connection, "SELECT pg_try_advisory_lock(%s, hashtext(%s))", lock))
        if self._has_lock:
            log.debug("worker.on_call", channel=self._channel)
        return self._has_lock
