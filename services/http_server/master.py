"""gunicorn's master of our HTTP processes. Its one worker is the instance, so it ends with its worker, and as it did.

gunicorn itself would start another worker silently; supervisord and the guard, which note, count, limit and restart
ends, would see none. The listening socket belongs to supervisord, so clients wait for the next process.

The master has nothing to do with requests, so this module imports nothing of the server.
"""

import contextlib
import ctypes
import os
import signal
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

#: An option of prctl(2).
_PR_SET_DUMPABLE = 4
#: Seconds between two looks at the worker's sign of life if no signal arrives; the end of a worker is a signal.
LOOK_INTERVAL_SECONDS = 10.0
#: Signals to a worker that ask it to end.
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGQUIT)


class Master(Arbiter):  # type: ignore[misc]
    """Ends as its worker did if nobody asked the worker to end: with its exit status, or by its signal."""

    _asked: set[int]

    def wait_for_signals(self, timeout: float = LOOK_INTERVAL_SECONDS) -> list[int]:
        """Called by gunicorn, with a second, before each look; it looks for nothing that changes within a second."""
        found: list[int] = super().wait_for_signals(max(timeout, LOOK_INTERVAL_SECONDS))
        return found

    def kill_worker(self, pid: int, sig: int) -> None:
        """Called by gunicorn to send a signal to a worker."""
        if sig in _STOP_SIGNALS:
            self._asked.add(pid)
        super().kill_worker(pid, sig)

    def reap_workers(self) -> None:
        """Called by gunicorn after the end of a child.

        Raises `HaltServer` if a worker ended that was not asked to; its status is negative for a signal.
        """
        ends = {pid: end for pid in self.WORKERS if (end := _end_of(pid)) is not None}
        if not ends:
            return
        super().reap_workers()  # it raises for a worker that could not start
        for pid, status in ends.items():
            if pid in self._asked:
                self._asked.discard(pid)
            else:
                raise HaltServer(f"its worker (pid {pid}) {_manner(status)}", status)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Called by gunicorn to end. A negative status is the signal that ends the master."""
        try:
            super().halt(reason, exit_status)
        finally:
            if exit_status < 0:
                _end_by(-exit_status)


def become_master(arbiter: Any) -> None:
    """gunicorn's hook `on_starting`: makes its arbiter such a master."""
    arbiter.__class__ = Master
    arbiter._asked = set()


def _end_of(pid: int) -> int | None:
    """How a child ended, which stays to be reaped: its exit status, or its signal, negative; None while it runs."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _manner(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _end_by(signum: int) -> None:
    """Ends this process by a signal, without a second core dump."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    with contextlib.suppress(OSError):  # nobody can handle SIGKILL
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
