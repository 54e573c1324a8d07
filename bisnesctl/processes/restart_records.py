"""The rolling restart that was begun last: `run/rollout.json` says which instances it had still to restart.

A command that restarts instances in turn writes it before each step and removes it at the end. After a failure or a
SIGKILL it stays: `status` reads which instances still run as before, and the guard which one to start again. A later
rolling restart keeps it beside its own record, unless it is the same command: that one restarts all of them.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bisnesctl.host import disk, process_stat
from bisnesctl.processes.supervisor import Process

#: The file, below `run_dir`; earlier releases read and write it too.
FILE = "rollout.json"
#: Unfinished rolling restarts that are kept beside the last one, at most.
MAX_EARLIER = 10


@dataclass(frozen=True)
class RestartRecord:
    """One rolling restart."""

    #: The words after `bisnesctl` that repeat it.
    command: str
    #: The process of the command, and when it was started, in seconds after the boot of the machine.
    pid: int
    pid_started: float
    #: When the rolling restart began, in seconds since the epoch.
    at: float
    #: The instance whose turn it is.
    now: str
    #: The instances whose turn has not come.
    left: tuple[str, ...] = ()
    #: Why it failed, in one line; empty if it did not.
    failed: str = ""
    #: Rolling restarts before it that failed or were interrupted, the newest first.
    earlier: "tuple[RestartRecord, ...]" = ()

    @property
    def unfinished(self) -> "list[RestartRecord]":
        """This and the earlier ones, the newest first, that failed or were interrupted."""
        return [each for each in (self, *self.earlier) if each.failed or each.interrupted]

    @property
    def interrupted(self) -> bool:
        """Whether the command ended without a word, for example because of a SIGKILL."""
        return not self.failed and not process_stat.runs(self.pid, self.pid_started)

    def missing(self, processes: Mapping[str, Process]) -> str:
        """The instance that an interrupted rolling restart stopped and did not start again; empty if there is none."""
        return next((each.now for each in self.unfinished if each._has_dropped(processes.get(each.now))), "")

    def _has_dropped(self, process: Process | None) -> bool:
        if self.failed or process is None or not process.settled:
            return False
        return process.ended_at >= int(self.at) and process.ended_at - process.lived < self.at

    def remark(self, name: str, process: Process) -> str:
        """Why an instance was not renewed, and the next step; empty if it was, or nothing failed that meant it."""
        return next((text for each in self.unfinished if (text := each._remark(name, process))), "")

    def _remark(self, name: str, process: Process) -> str:
        if name not in (self.now, *self.left):
            return ""
        at = time.strftime("%H:%M", time.localtime(self.at))
        what = f"the {self.command.split()[0]} at {at}"
        born = time.time() - process.uptime if process.active else process.ended_at - process.lived
        dropped = self.failed and name == self.now and not process.active
        if born >= self.at and not dropped:
            return ""  # it was started since
        if dropped:
            return f"{what} stopped it, because it failed: {self.failed}; `bisnesctl {self.command}` tries again"
        how = f"{what} failed ({self.failed})" if self.failed else f"{what} was interrupted"
        return f"it is as before: {how}; `bisnesctl {self.command}` tries again"


def begin(run_dir: Path, command: str, now: str, left: tuple[str, ...]) -> RestartRecord:
    """Records a step of a rolling restart of this process. A full disk must not prevent it."""
    pid, before = os.getpid(), read(run_dir)
    others = [each for each in before.unfinished if each.command != command] if before else []
    earlier = tuple(replace(each, earlier=()) for each in others[:MAX_EARLIER])
    own = RestartRecord(command, pid, process_stat.read(pid).started_at, time.time(), now, left, earlier=earlier)
    return write(run_dir, own)


def write(run_dir: Path, record: RestartRecord) -> RestartRecord:
    """Writes the record. A full disk must not prevent the rolling restart."""
    with contextlib.suppress(OSError):
        disk.replace(run_dir / FILE, json.dumps(asdict(record)).encode())
    return record


def finish(run_dir: Path) -> None:
    """Removes the record, because everything was restarted. Earlier rolling restarts that are unfinished stay."""
    before = read(run_dir)
    if before and before.earlier:
        write(run_dir, replace(before.earlier[0], earlier=before.earlier[1:]))
        return
    with contextlib.suppress(OSError):
        (run_dir / FILE).unlink()


def forget(run_dir: Path, since: float) -> None:
    """Removes the records of rolling restarts that began at this time or later, in seconds since the epoch."""
    before = read(run_dir)
    if before is None:
        return
    kept = [replace(each, earlier=()) for each in (before, *before.earlier) if each.at < since]
    if kept:
        write(run_dir, replace(kept[0], earlier=tuple(kept[1:])))
        return
    with contextlib.suppress(OSError):
        (run_dir / FILE).unlink()


def read(run_dir: Path) -> RestartRecord | None:
    """The record of a rolling restart that is under way, failed or was interrupted; None if there is none."""
    try:
        return _record(json.loads((run_dir / FILE).read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _record(found: dict[str, Any]) -> RestartRecord:
    earlier = tuple(_record(each) for each in found.get("earlier", ()))
    return RestartRecord(**found | {"left": tuple(found["left"]), "earlier": earlier})
