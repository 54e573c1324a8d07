"""Background jobs: regular work beside the sending, each job on a thread of its own, so that none delays another."""

import threading
from typing import Protocol

import structlog

from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable

#: Seconds between two runs of a job that found nothing to do.
IDLE_JOB_SECONDS = 1.0

log = structlog.get_logger()


class BackgroundJob(Protocol):
    """One kind of work; several processes may do it at once."""

    def work(self, connection: Connection) -> bool:
        """Do the work that is due; returns whether there may be more at once."""


class BackgroundJobs:
    """Runs each job again and again."""

    def __init__(self, database: Database, **jobs: BackgroundJob) -> None:
        self._database = database
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run_until_stopped, args=each, name=each[0], daemon=True)
            for each in jobs.items()
        ]

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no more work. The end of the process may interrupt the work in progress: it is done again."""
        self._stopped.set()

    def _run_until_stopped(self, name: str, job: BackgroundJob) -> None:
        while not self._stopped.is_set():
            if not self._run(name, job):
                self._stopped.wait(IDLE_JOB_SECONDS)

    def _run(self, name: str, job: BackgroundJob) -> bool:
        try:
            with self._database.connection() as connection:
                return job.work(connection)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("background_job.delayed", job=name, reason=str(error).strip())
        except Exception:
            log.exception("background_job.failed", job=name)
        return False
