"""The configuration of gunicorn for all our HTTP processes, which differ by the environment's BISNES_PROCESS.

`gunicorn -c python:services.gunicorn_conf …` reads it. An instance is one process, but for the legacy process: nobody
restarts that, so gunicorn's master stays above it and starts another worker. Nothing of the server is imported here
before that fork, which keeps 35 MiB out of the master.
"""

import ctypes
import gc
import os
import signal
from typing import Any

from gunicorn.workers.base import Worker

from services.http_server.single_process import become_single_process

_program = os.environ.get("BISNES_PROCESS", "api")
_PR_SET_PDEATHSIG = 1

# One worker to a master: supervisord counts, restarts and limits instances, and acceptance commits in larger groups.
workers = 1
graceful_timeout = 8  # seconds; supervisord kills after 10
timeout = 180  # seconds without a sign of life before the legacy process's worker is killed
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
loglevel = "warning"


class worker_class(Worker):  # type: ignore[misc]
    """The setting: what gunicorn makes, in the legacy process before it forks. It becomes the server afterwards."""

    def init_process(self) -> None:
        """Serve. Garbage is not looked for until the application is loaded."""
        gc.disable()
        from services.http_server.server import Worker as Server

        worker: Any = self
        pid, sign_of_life = worker.pid, worker.tmp  # the master watches this file
        worker.__class__ = Server
        worker.__init__(worker.age, worker.ppid, worker.sockets, worker.app, worker.timeout, worker.cfg, worker.log)
        worker.tmp.close()
        worker.pid, worker.tmp = pid, sign_of_life
        worker.init_process()


def on_starting(server: Any) -> None:
    """Serve in this process, without a master."""
    if _program != "legacy":
        become_single_process(server)


def post_fork(server: Any, worker: Any) -> None:
    """End a worker with its master, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == 1:
        os._exit(1)


def post_worker_init(worker: Any) -> None:
    """Set up logging and the trusted proxies, start the heartbeat. `worker.wsgi` is a `Service` or an `AsgiApp`."""
    from bisnesctl.setting_types import networks
    from services.database.connection import Database
    from services.http_server.protocol import Sweep
    from services.runtime.heartbeat import Heartbeat
    from services.runtime.process import Process

    gc.enable()
    process = Process.from_environment(_program)
    counters = worker.wsgi.counters
    counters.clients = Sweep.open_connections
    worker.instance = process.instance
    database = Database(process.settings.database_dsn, 1, f"{process.instance} heartbeat")
    worker.heartbeat = Heartbeat(
        process.settings, database, _program, process.instance, worker.ppid, counters, worker.wsgi.watchdog
    )
    worker.heartbeat.start()
    worker.trust(networks(process.settings.trusted_proxies))


def worker_exit(server: Any, worker: Any) -> None:
    """Record that the instance stopped."""
    if hasattr(worker, "heartbeat"):
        worker.heartbeat.stop()
