"""Browsers wait where the processor is short: whatever they are at, messages of other channels go first."""

import contextlib
import os
from pathlib import Path

#: The niceness of a session where the scheduler's policy for what others leave is not to be had.
NICE = 19


def lower(pid: int) -> None:
    """Let others go before a process and all that it starts.

    SCHED_IDLE (sched(7)) holds whatever niceness a browser gives itself, and what waits is put where only such runs.
    Linux shares the processor between sessions (as of setsid) first, whatever is so within them ("The autogroup
    feature"), so that the niceness of its session is set as well, unless that is others' too. Where none of these is
    allowed, nothing changes.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        if os.getsid(pid) in (pid, os.getppid()):  # it leads the session, or the shim above it does
            Path(f"/proc/{pid}/autogroup").write_text(str(NICE))
