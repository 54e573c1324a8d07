"""Work beside the sending: looked for now and then, each kind on a thread of its own, so that none delays another."""

import threading
from typing import Protocol

import structlog

from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable

#: Seconds between two looks of a chore that found nothing to do.
PAUSE = 1.0

log = structlog.get_logger()


class BackgroundJob(Protocol):
    """One kind of work; several processes may look for it at once."""

    def work(self, connection: Connection) -> bool:
        """Do what is due; returns whether there may be more at once."""


class BackgroundJobs:
    """Does each of its chores again and again."""

    def __init__(self, database: Database, **chores: BackgroundJob) -> None:
        self._database = database
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._do_on, args=each, name=each[0], daemon=True) for each in chores.items()
        ]

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin nothing more. What is under way may be cut off by the process's end: it is done again."""
        self._stopped.set()

    def _do_on(self, name: str, chore: BackgroundJob) -> None:
        while not self._stopped.is_set():
            if not self._do(name, chore):
                self._stopped.wait(PAUSE)

    def _do(self, name: str, chore: BackgroundJob) -> bool:
        try:
            with self._database.connection() as connection:
                return chore.work(connection)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("a chore waits for the database", chore=name, reason=str(error).strip())
        except Exception:
            log.exception("a chore failed, it is tried again", chore=name)
        return False
