"""What /proc says of a process's time: how long it lives, and how long it waited for a processor.

CLOCK_BOOTTIME is used throughout, which no change of the wall clock touches. Imports little, since every session does.
"""

import contextlib
import os
import time
from pathlib import Path


def boottime() -> float:
    """Seconds since the machine's start, its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def uptime(pid: int) -> float:
    """Seconds since a process started. Raises OSError if it is gone."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # proc(5): field 22, after the boot
    return boottime() - started


def waited(pid: int) -> float:
    """Seconds that the threads of a process, all together, were ready to run and got no processor.

    0 if the process is gone, or the kernel does not count it (schedstat).
    """
    with contextlib.suppress(OSError):
        return sum(_waited(f"{pid}/task/{thread}") for thread in os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    return 0.0


def main_thread_waited(pid: int) -> float:
    """The same of its first thread alone, which is cheap to read."""
    return _waited(str(pid))


def _waited(task: str) -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) / 1e9
    return 0.0
