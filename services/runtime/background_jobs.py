"""Background jobs: regular work beside the sending, each job on a thread of its own, so that none delays another."""

import threading
from typing import ClassVar, Protocol

import structlog

from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable

#: Seconds between two runs of a job that found nothing to do, at least: `wake` begins the next one no earlier.
MIN_PAUSE_SECONDS = 1.0

log = structlog.get_logger()


class BackgroundJob(Protocol):
    """One kind of work; several processes may do it at once."""

    #: Seconds between two runs that found nothing to do, unless `wake` says that there may be something.
    idle_seconds: ClassVar[float]

    def work(self, connection: Connection) -> bool:
        """Do the work that is due; returns whether there may be more at once."""


class BackgroundJobs:
    """Runs each job again and again."""

    def __init__(self, database: Database, **jobs: BackgroundJob) -> None:
        self._database = database
        self._stopped = threading.Event()
        self._woken = {name: threading.Event() for name in jobs}
        self._threads = [
            threading.Thread(target=self._run_until_stopped, args=each, name=each[0], daemon=True)
            for each in jobs.items()
        ]

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There may be something to do. Returns at once."""
        for each in self._woken.values():
            each.set()

    def stop(self) -> None:
        """Begin no more work. The end of the process may interrupt the work in progress: it is done again."""
        self._stopped.set()
        self.wake()

    def _run_until_stopped(self, name: str, job: BackgroundJob) -> None:
        while not self._stopped.is_set():
            self._woken[name].clear()
            if not self._run(name, job):
                self._stopped.wait(MIN_PAUSE_SECONDS)
                self._woken[name].wait(max(job.idle_seconds - MIN_PAUSE_SECONDS, 0.0))

    def _run(self, name: str, job: BackgroundJob) -> bool:
        try:
            with self._database.connection() as connection:
                return job.work(connection)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("background_job.delayed", job=name, reason=str(error).strip())
        except Exception:
            log.exception("background_job.failed", job=name)
        return False
