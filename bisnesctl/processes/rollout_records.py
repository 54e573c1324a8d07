"""The rollout that was begun last: `run/rollout.json` says which instances it had still to restart.

A command that restarts instances in turn writes it before each step and removes it at the end. After a failure or a
SIGKILL it stays: `status` reads which instances still run as before, and the guard which one to start again.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bisnesctl.host import disk, process_stat
from bisnesctl.processes.supervisor import Process

#: The file, below `run_dir`.
FILE = "rollout.json"


@dataclass(frozen=True)
class RolloutRecord:
    """One rollout."""

    #: The words after `bisnesctl` that repeat it.
    command: str
    #: The process of the command, and when it was started, in seconds after the boot of the machine.
    pid: int
    pid_started: float
    #: When the rollout began, in seconds since the epoch.
    at: float
    #: The instance whose turn it is.
    now: str
    #: The instances whose turn has not come.
    left: tuple[str, ...] = ()
    #: Why it failed, in one line; empty if it did not.
    failed: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether the command ended without a word, for example because of a SIGKILL."""
        return not self.failed and not _runs(self.pid, self.pid_started)

    def missing(self, processes: Mapping[str, Process]) -> str:
        """The instance that an interrupted rollout stopped and did not start again; empty if there is none."""
        process = processes.get(self.now)
        if process is None or not process.settled or not self.interrupted:
            return ""
        return self.now if process.ended_at >= int(self.at) and process.ended_at - process.lived < self.at else ""

    def remark(self, name: str, process: Process) -> str:
        """Why an instance was not renewed, and the next step; empty if the rollout is under way or did not mean it."""
        if name not in (self.now, *self.left) or not (self.failed or self.interrupted):
            return ""
        if process.active and time.time() - process.uptime >= self.at:
            return ""  # it was started since
        at = time.strftime("%H:%M", time.localtime(self.at))
        what = f"the {self.command.split()[0]} at {at}"
        if self.failed and not process.active:
            return f"{what} stopped it, because it failed: {self.failed}; `bisnesctl {self.command}` tries again"
        how = f"{what} failed ({self.failed})" if self.failed else f"{what} was interrupted"
        return f"it is as before: {how}; `bisnesctl {self.command}` tries again"


def begin(run_dir: Path, command: str, now: str, left: tuple[str, ...]) -> RolloutRecord:
    """Records a step of a rollout of this process. A full disk must not prevent it."""
    pid = os.getpid()
    return write(run_dir, RolloutRecord(command, pid, process_stat.read(pid).started_at, time.time(), now, left))


def write(run_dir: Path, record: RolloutRecord) -> RolloutRecord:
    """Writes the record. A full disk must not prevent the rollout."""
    with contextlib.suppress(OSError):
        disk.replace(run_dir / FILE, json.dumps(asdict(record)).encode())
    return record


def remove(run_dir: Path) -> None:
    """Removes the record: everything was restarted."""
    with contextlib.suppress(OSError):
        (run_dir / FILE).unlink()


def read(run_dir: Path) -> RolloutRecord | None:
    """The record of a rollout that is under way, failed or was interrupted; None if there is none."""
    try:
        found = json.loads((run_dir / FILE).read_text())
        return RolloutRecord(**found | {"left": tuple(found["left"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _runs(pid: int, started_at: float) -> bool:
    try:
        found = process_stat.read(pid)
    except OSError:
        return False
    return found.state != "Z" and abs(found.started_at - started_at) < 1
