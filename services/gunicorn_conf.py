"""How gunicorn runs our HTTP processes: `gunicorn -c python:services.gunicorn_conf …`, told apart by BISNES_PROCESS."""

import ctypes
import os
import signal
from typing import Any

from bisnesctl.settings import load
from services.database.connection import Database
from services.runtime import logging_setup
from services.runtime.heartbeat import Counters, Heartbeat

_process = os.environ.get("BISNES_PROCESS", "api")
_PR_SET_PDEATHSIG = 1

# One worker to a master: supervisord counts, restarts and limits instances, and acceptance commits in larger groups.
workers = 1
worker_class = "services.http_server.server.Worker"
graceful_timeout = 8  # seconds; supervisord kills after 10
timeout = 180  # seconds without a sign of life before a worker is replaced; the guard acts, and notes it, before that
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
loglevel = "warning"


def post_fork(server: Any, worker: Any) -> None:
    """A worker does not outlive its master, however that dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == 1:
        os._exit(1)


def post_worker_init(worker: Any) -> None:
    """Log our way and show signs of life."""
    settings = load()
    logging_setup.configure(settings.log_level)
    instance = os.environ.get("BISNES_INSTANCE", _process)
    counters = getattr(worker.wsgi, "counters", None) or Counters()
    worker.heartbeat = Heartbeat(
        settings,
        Database(settings.database_dsn, 1, f"{instance} heartbeat"),
        _process,
        instance,
        os.getppid(),
        counters,
        worker.wsgi.watchdog,
    )
    worker.heartbeat.start()


def worker_exit(server: Any, worker: Any) -> None:
    """Say that the instance stopped."""
    if hasattr(worker, "heartbeat"):
        worker.heartbeat.stop()
