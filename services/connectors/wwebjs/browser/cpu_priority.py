"""Browsers come after the other channels where the processor is short, but are never left without any."""

import contextlib
import os
from pathlib import Path

#: The niceness of a session. Measured with 30 busy processes on two cores: Chromium is up after 12 s with 5, 44 s with
#: 10, and not within 100 s with SCHED_IDLE, by which anything busy on the machine would stop all sessions.
NICE = 5


def lower(pid: int) -> None:
    """Let others go before a process and all that it starts.

    By SCHED_BATCH (sched(7)) it never interrupts what runs. Linux shares the processor between sessions (as of setsid)
    first, whatever is so within them ("The autogroup feature"), so that the niceness of its session is set as well,
    unless that is others' too. Where none of these is allowed, nothing changes.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):
        if os.getsid(pid) in (pid, os.getppid()):  # it leads the session, or the shim above it does
            Path(f"/proc/{pid}/autogroup").write_text(str(NICE))
