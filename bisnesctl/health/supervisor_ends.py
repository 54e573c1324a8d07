"""The end of supervisord without a stop: everything was down. The next start finds it and leaves a process event."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bisnesctl.database.event_log import SPOOLS
from bisnesctl.database.process_events import ProcessEvent, ProcessEventWriter
from bisnesctl.health.guard_file import GUARD, GUARD_FILE
from bisnesctl.host.process_times import boottime
from bisnesctl.logs import files
from bisnesctl.naming import SUPERVISORD
from bisnesctl.processes.deployment import Deployment

#: The kind of the process event.
ENDED = "supervisord_ended"
#: Lines at the end of supervisord's log that are read.
_LINES = 500
_BOOT = re.compile(r"^\S+ \S+ \w+ supervisord started with pid \d+")
_SIGNAL = re.compile(r"^\S+ \S+ \w+ received (?P<signal>SIG\w+) indicating exit request")


@dataclass(frozen=True)
class UnwantedEnd:
    """One end of supervisord that no `bisnesctl stop` caused."""

    #: The last sign of life, in seconds since the epoch.
    seen_at: float
    #: When it was found.
    at: float
    #: Whether the machine was restarted meanwhile.
    rebooted: bool
    #: The signal that supervisord logged, such as SIGTERM; empty: it could not log any.
    signal: str


def find(deployment: Deployment) -> UnwantedEnd | None:
    """The end of this deployment's last supervisord, which must be gone. None if it was stopped, or none ever ran."""
    settings, last = deployment.settings, deployment.last_start
    if last is None or not last.since:
        return None
    pid_file = settings.run_dir / "supervisord.pid"  # supervisord removes it at an end in order
    signal = _signal(settings.log_dir / "supervisord.log")
    if not pid_file.exists() and not signal:
        return None
    now = time.time()
    signs = (settings.run_dir / GUARD_FILE, pid_file, settings.log_dir / "supervisord.log")
    seen = min(max(map(_changed_at, signs)) or last.since, now)
    return UnwantedEnd(seen, now, rebooted=seen < now - boottime(), signal=signal)


def record(deployment: Deployment, end: UnwantedEnd) -> None:
    """Leaves the process event in the guard's file. No guard runs yet, so nothing else writes it."""
    settings = deployment.settings
    details = {
        "seen_at": round(end.seen_at, 3),
        "down_seconds": round(end.at - end.seen_at, 1),
        "rebooted": end.rebooted,
        "signal": end.signal or None,
    }
    severity = "warning" if end.rebooted else "error"
    event = ProcessEvent(SUPERVISORD, SUPERVISORD, ENDED, severity, end.at, details)
    ProcessEventWriter(settings.home / SPOOLS[GUARD], settings.database_dsn).record(event)


def _signal(log: Path) -> str:
    """The signal that ended the last supervisord, as it logged it; empty if it logged none."""
    found = ""
    with suppress(OSError):
        for line in files.tail(log, _LINES):
            if _BOOT.match(line):
                found = ""
            elif match := _SIGNAL.match(line):
                found = match["signal"]
    return found


def _changed_at(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
