"""Background jobs run at their own intervals, and when they are woken."""

import contextlib
import threading
from typing import Any, ClassVar

from services.runtime.background_jobs import BackgroundJobs
from tests.support.waiting import HANG_SECONDS


class Job:
    idle_seconds: ClassVar[float] = 3600.0

    def __init__(self, more=0):
        self.ran = threading.Semaphore(0)
        self.more = more

    def work(self, connection):
        self.ran.release()
        self.more -= 1
        return self.more >= 0


class Database:
    @contextlib.contextmanager
    def connection(self):
        yield None


def test_a_job_runs_at_the_start_again_while_there_is_more_and_when_it_is_woken():
    job = Job(more=2)
    database: Any = Database()
    jobs = BackgroundJobs(database, job=job)
    jobs.start()
    for _ in range(3):
        assert job.ran.acquire(timeout=HANG_SECONDS)
    assert not job.ran.acquire(blocking=False)
    jobs.wake()
    assert job.ran.acquire(timeout=HANG_SECONDS)
    jobs.stop()
