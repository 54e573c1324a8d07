"""gunicorn without its master: an instance of our HTTP programs is one process, which serves by itself.

supervisord holds the listening socket, and with the guard it starts, counts, limits and restarts the instance. A master
between them would take memory, and would hide the end of its worker.

This module imports nothing of the server: gunicorn reads it before the application.
"""

import signal
import sys
from typing import Any, NoReturn

from gunicorn.arbiter import Arbiter


class SingleProcess(Arbiter):  # type: ignore[misc]
    """Serves in place of starting a worker. Its exit statuses are those of gunicorn."""

    def init_signals(self) -> None:
        """Called by gunicorn, which would queue signals for its master. A stop during the start ends the process."""
        self.log.close_on_exec()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)

    def spawn_worker(self) -> NoReturn:
        """Called by gunicorn to start a worker. Ends the process."""
        worker: Any = self.worker_class(1, self.pid, self.LISTENERS, self.app, self.timeout / 2, self.cfg, self.log)
        worker.pid = self.pid
        try:
            worker.init_process()
        except Exception:
            self.log.exception("The process cannot serve")
            sys.exit(1 if worker.booted else self.WORKER_BOOT_ERROR)
        finally:
            worker.tmp.close()
            self.cfg.worker_exit(self, worker)
        sys.exit(0)


def become_single_process(arbiter: Any) -> None:
    """gunicorn's hook `on_starting`: makes its arbiter such a process."""
    arbiter.__class__ = SingleProcess
