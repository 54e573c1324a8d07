"""The start that failed while nothing ran: `run/failed-start.json` says when, how it was typed and why it failed.

The next start that succeeds and a stop remove it, so that `status` tells it from a deliberate stop.
"""

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bisnesctl import moments
from bisnesctl.errors import BisnesError
from bisnesctl.host import disk

#: The file, below `run_dir`.
FILE = "failed-start.json"
#: Characters of a reason, at most.
MAX_REASON = 500


@dataclass(frozen=True)
class FailedStart:
    """A start that failed."""

    #: Seconds since the epoch.
    at: float
    #: The command that repeats it.
    command: str
    reason: str

    @property
    def text(self) -> str:
        """The record for people."""
        return f"the start at {moments.shown(self.at)} failed: {self.reason}"


def read(run_dir: Path) -> FailedStart | None:
    """The record; None if there is none, or its file is damaged."""
    try:
        found = json.loads((run_dir / FILE).read_text())
        return FailedStart(float(found["at"]), str(found["command"]), str(found["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record(run_dir: Path, command: str, error: BaseException) -> None:
    """Records a start that failed now. A full disk, which may be the reason, must not replace the error."""
    reason = " ".join(str(error).split())[:MAX_REASON] if isinstance(error, BisnesError) else "it was interrupted"
    found = FailedStart(time.time(), command, reason)
    with contextlib.suppress(OSError):
        disk.replace(run_dir / FILE, json.dumps(asdict(found)).encode())


def remove(run_dir: Path) -> None:
    """Removes the record."""
    with contextlib.suppress(OSError):
        (run_dir / FILE).unlink(missing_ok=True)
