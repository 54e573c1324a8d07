"""Browsers wait where the processor is short: whatever they are at, messages of other channels go first."""

import contextlib
import os
from pathlib import Path

#: The niceness of a session and all that it starts: what others leave.
NICE = 19


def lower(pid: int) -> None:
    """Let others go before a process and all that it starts.

    Linux shares the processor between sessions (as of setsid) first, whatever the niceness within them (sched(7), "The
    autogroup feature"), so that of its session is set as well, unless that is others' too. Where neither is allowed,
    nothing changes.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
    with contextlib.suppress(OSError):
        if os.getsid(pid) in (pid, os.getppid()):  # it leads the session, or the shim above it does
            Path(f"/proc/{pid}/autogroup").write_text(str(NICE))
