"""Times of a process from /proc: how long it has run, and how long it waited for a processor.

All times are on CLOCK_BOOTTIME, which changes of the wall clock do not affect. Imports little; each session uses it.
"""

import contextlib
import os
import time
from pathlib import Path

from bisnesctl.host import process_stat


def boottime() -> float:
    """Seconds since the machine was booted, including time in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def uptime(pid: int) -> float:
    """Seconds since a process started. Raises OSError if it is gone."""
    return boottime() - process_stat.read(pid).started_at


def waited(pid: int) -> float:
    """Seconds that all threads of a process together were ready to run without getting a processor.

    0 if the process is gone, or the kernel has no schedstat.
    """
    with contextlib.suppress(OSError):
        return sum(_waited(f"{pid}/task/{thread}") for thread in os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    return 0.0


def main_thread_waited(pid: int) -> float:
    """The same for the first thread alone, which is cheaper to read."""
    return _waited(str(pid))


def _waited(task: str) -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) / 1e9
    return 0.0
