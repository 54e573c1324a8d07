"""Hears of new events: PostgreSQL announces each commit that raised some."""

import threading
from collections.abc import Callable

import structlog

from services.database.connection import Database, DatabaseError, DatabaseUnavailable
from services.database.listen import PAUSE, notifications

#: The channel on which `raise_events` announces them.
CHANNEL = "bisnes_events"
#: Seconds after which it rings in any case: for what is due by time, and for what was not heard.
SWEEP = PAUSE

log = structlog.get_logger()


class EventListener:
    """Rings when events were raised, and every second."""

    def __init__(self, database: Database, ring: Callable[[], None]) -> None:
        """`ring` is called on a thread of the bell's own, and must neither wait nor raise."""
        self._database, self._ring = database, ring
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to listen; returns at once."""
        threading.Thread(target=self._listen_on, name="bell", daemon=True).start()

    def stop(self) -> None:
        """Ring no more."""
        self._stopped.set()

    def _listen_on(self) -> None:
        while not self._stopped.is_set():
            try:
                for _ in notifications(self._database, (CHANNEL,), self._stopped):
                    self._ring()
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("new events cannot be heard of, looking each second", reason=str(error).strip())
            self._ring()
            self._stopped.wait(SWEEP)
