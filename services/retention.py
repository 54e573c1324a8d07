"""The regular run of the retention, on a thread of its own: in the `events` process, or in the legacy process.

Several processes of several machines look; one of them runs at a time, and an hour after the last run of any of them.
"""

import threading
import time
from collections.abc import Iterator
from functools import partial

import structlog

from bisnesctl.database import media_store
from bisnesctl.errors import Unavailable
from bisnesctl.retention import records
from bisnesctl.retention.run import ANSWER_SECONDS, Outcome, run
from bisnesctl.settings import Settings
from services.database.clock import DatabaseClock
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.media import counted
from services.media.base import MediaError, MediaStore
from services.media.store import media_store as open_media_store

#: Seconds between two looks whether a run is due.
LOOK_INTERVAL_SECONDS = 10.0
#: Seconds for which nothing is deleted after the clock was set forward, perhaps by mistake: everything seems old.
DOUBT_SECONDS = 3600.0

log = structlog.get_logger()


class Retention:
    """Deletes old rows, and files that no message has."""

    def __init__(self, settings: Settings, database: Database, given: Settings | None = None) -> None:
        """`given`: the settings without defaults in place of refused values, by which nothing must be deleted."""
        self._settings, self._database, self._given = settings, database, given or settings
        self._clock = DatabaseClock(settings)
        self._doubtful_until = 0.0  # by time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run_until_stopped, name="retention", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no more batches. The end of the process may interrupt the one in progress, which is done again."""
        self._stopping.set()

    def run_if_due(self) -> Outcome | None:
        """Run if it is due; None if it is not, or another process is running.

        Raises `DatabaseUnavailable`, or another error of the database.
        """
        with self._database.connection() as connection:
            if self._clock.look(connection):
                self._doubtful_until = time.monotonic() + DOUBT_SECONDS
            last = records.last(connection)
        if time.monotonic() < self._doubtful_until or (last is not None and not last.is_due):
            return None
        return self._run()

    def _run(self) -> Outcome | None:
        own = self._database.connect(by_key=False, seconds=ANSWER_SECONDS)
        try:
            outcome = run(own, self._given, partial(remove_files, self._settings, own), self._stopping.wait)
        finally:
            own.close()
        if outcome is not None and outcome.deleted:
            removed = {name.replace(" ", "_"): count for name, count in outcome.deleted.items()}
            log.info("retention.cleaned_up", unfinished=outcome.unfinished, **removed)
        if outcome is not None and outcome.failed:
            log.warning("retention.failed", kinds=outcome.failed)
        return outcome

    def _run_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_if_due()
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("retention.delayed", reason=str(error).strip())
            except Exception:
                log.exception("retention.crashed")
            self._stopping.wait(LOOK_INTERVAL_SECONDS)


def remove_files(settings: Settings, connection: Connection) -> Iterator[int]:
    """Remove the files that no message has; see `bisnesctl.retention.run.RemoveFiles`."""
    try:
        yield from counted.remove_abandoned(connection, lambda: _open_store(settings, connection))
    except MediaError as error:
        raise Unavailable(str(error)) from error


def _open_store(settings: Settings, connection: Connection) -> MediaStore:
    """The store, which must be that of this database: another one lacks the files, and they would only be forgotten."""
    media_store.check(connection, settings)
    return open_media_store(settings)
