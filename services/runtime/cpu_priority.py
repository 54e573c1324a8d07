"""Lowers the CPU priority of browsers and of the dashboard, so that messages go first and yet nothing starves."""

import contextlib
import os
from pathlib import Path

#: The niceness. Measured with sessions and 30 busy processes on two cores: Chromium is up after 12 s with 5, 44 s with
#: 10, and not within 100 s with SCHED_IDLE, by which anything busy on the machine would stop all sessions.
NICE = 5


def lower(pid: int) -> None:
    """Lower the priority of a process and everything that it starts.

    With SCHED_BATCH (sched(7)) it never preempts other processes. Linux first divides CPU time between sessions (as of
    setsid), regardless of the niceness within them ("The autogroup feature"), so the niceness of its session is set
    too, unless other processes share that session. If none of this is permitted, nothing changes.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):
        if os.getsid(pid) in (pid, os.getppid()):  # it leads the session, or the shim above it does
            Path(f"/proc/{pid}/autogroup").write_text(str(NICE))
