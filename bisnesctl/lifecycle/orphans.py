"""Processes of an earlier run: when supervisord is killed, its processes are told to end, and may take a while."""

import time

import psutil

from bisnesctl.errors import Conflict
from bisnesctl.processes.supervisor import lives
from bisnesctl.settings import Settings

#: Seconds that they get, which is longer than any program takes to stop.
PATIENCE = 65.0


def find(settings: Settings) -> dict[int, str]:
    """Names by pid of the processes that a supervisord of this very `.env` started, as far as we may see them."""
    found = {}
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue  # gone, or another user's
        if environment.get("BISNES_ENV") == str(settings.env_file) and "SUPERVISOR_PROCESS_NAME" in environment:
            found[process.pid] = environment["SUPERVISOR_PROCESS_NAME"]
    return found


def wait(left: dict[int, str]) -> None:
    """Waits until they have ended. Raises `Conflict` naming those that do not."""
    deadline = time.monotonic() + PATIENCE
    while alive := [pid for pid in left if lives(pid)]:
        if time.monotonic() > deadline:
            names = ", ".join(f"{left[pid]} (pid {pid})" for pid in alive)
            raise Conflict(f"of an earlier run there still are {names}: end them with `kill -9`, then start again")
        time.sleep(0.1)
