"""The words of a process that ended: the last error in its logs, as a sentence beside its exit status."""

import math
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from bisnesctl.logs import exits, files
from bisnesctl.logs.formats import parse_fields

#: Seconds before the end of a process in which an error is its reason.
RECENT_SECONDS = 30.0
#: Seconds by which supervisord's times, which are whole seconds, may be off.
_ROUNDING_SECONDS = 1.5
#: Lines at the end of a log that are read.
_LINES = 40
#: Characters of a reason, at most.
MAX_REASON_LENGTH = 300
#: How a process ended if the signal that killed it is not known.
KILLED = "it was killed"

_ERRORS = ("error", "critical")
# [2026-01-31 12:00:00 +0000] [123] [ERROR] Reason: Worker failed to boot.
_GUNICORN = re.compile(r"\[\d{4}-[^]]*\] \[\d+\] \[\w+\]")


def manner(status: int, said: str = "") -> str:
    """How a process ended: its exit status (-1: by a signal), and what it `said` about it, or the signal's name."""
    if status < 0:
        return f"{KILLED} by {said}" if said else KILLED
    return f"it ended with exit status {status}{f': {said}' if said else ''}"


def find_words(log_dir: Path, instance: str, status: int, lived: float, ended_at: float | None = None) -> str:
    """The words for `manner` beside the exit status. A process that was killed could log none, so it is the signal."""
    if status < 0:
        return exits.last_signal(log_dir / exits.SUPERVISORD_LOG, instance)
    return find_reason(log_dir, instance, lived, ended_at)


def find_crash(log_dir: Path, instance: str) -> str:
    """Why a process crashed just now, as far as supervisord's log and its own logs say it; empty if they do not."""
    killed_by = exits.last_signal(log_dir / exits.SUPERVISORD_LOG, instance)
    return f"killed by {killed_by}" if killed_by else find_reason(log_dir, instance, math.inf)


def find_reason(log_dir: Path, instance: str, lived: float, ended_at: float | None = None) -> str:
    """The last error that a process reported before it ended by itself; empty if it reported none.

    `lived`: seconds from its start to its end. `ended_at`: in seconds since the epoch; None: just now.
    """
    ended_at = time.time() if ended_at is None else ended_at
    since = ended_at - min(lived, RECENT_SECONDS) - _ROUNDING_SECONDS
    reason = _in_log(log_dir / f"{instance}.log", since) or _in_output(log_dir / f"{instance}.err.log", since)
    return reason if len(reason) <= MAX_REASON_LENGTH else f"{reason[: MAX_REASON_LENGTH - 1]}…"


def _in_log(path: Path, since: float) -> str:
    """The reason in the last line that logs an error."""
    for line in files.newest(path, _LINES):
        fields = parse_fields(line)
        if fields.get("level") in _ERRORS and _time(fields.get("timestamp", "")) >= since:
            exception = fields.get("exception", "").strip().splitlines()
            last = exception[-1] if exception else fields.get("event", "")
            return fields.get("reason") or fields.get("error") or last
    return ""


def _in_output(path: Path, since: float) -> str:
    """The last line of the standard error, which ends with the error of an exception, or with that of sys.exit."""
    try:
        if path.stat().st_mtime < since:
            return ""
    except OSError:
        return ""
    lines = (line.strip() for line in files.newest(path, _LINES))
    # A line of gunicorn only says that there was an error.
    return next((line for line in lines if line and not _GUNICORN.match(line)), "")


def _time(text: str) -> float:
    """Seconds since the epoch; 0 if it is no time."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC).timestamp()
    except ValueError:
        return 0.0
