"""The switch to another release that is under way: `releases/switch.json`, below the home.

The command writes it before each step and removes it at the end. After a SIGKILL it stays: the guard and the next
`bisnesctl release` read in it which release ran before, and finish or undo the switch.
"""

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from bisnesctl import paths
from bisnesctl.errors import Conflict
from bisnesctl.host import disk, process_stat

#: The file, in the folder of the releases.
FILE = "switch.json"
#: The variable with which the commands that a switch runs may do so while it is under way: its pid.
PART_OF = "_BISNESCTL_SWITCH"


class Stage(StrEnum):
    """The stages of a switch, in order; `RETURNING` may follow each but the last."""

    #: Checks and migrations: nothing that runs was touched.
    PREPARING = "preparing"
    #: The instances are restarted in turn.
    RELOADING = "reloading"
    WATCHING = "watching"
    #: The guard and the alerts are restarted.
    COMPLETING = "completing"
    #: Everything runs the new release: only the link and the records are missing.
    ACCEPTED = "accepted"
    #: Everything is brought back to the release before.
    RETURNING = "returning"


@dataclass(frozen=True)
class SwitchRecord:
    """One switch."""

    #: The numbers of the releases; 0: a checkout.
    origin: int
    target: int
    stage: Stage
    #: When it began, in seconds since the epoch.
    at: float
    #: The process of the command, and when it was started, in seconds after the boot of the machine.
    pid: int
    pid_started: float
    #: The instances that ran before, unless an operator stops them.
    ran: tuple[str, ...] = ()
    #: Why it returns; empty if it does not.
    reason: str = ""
    #: Why the return failed last, and when, in seconds since the epoch.
    failed: str = ""
    failed_at: float = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether its command ended without finishing it, for example because of a SIGKILL."""
        return not process_stat.runs(self.pid, self.pid_started)

    @property
    def command(self) -> str:
        """The command that began it, as it may be repeated."""
        return f"bisnesctl release switch {self.target}"

    def taken_over(self) -> "SwitchRecord":
        """The record of this process, which continues the switch."""
        pid = os.getpid()
        return replace(self, pid=pid, pid_started=process_stat.read(pid).started_at)


def begin(origin: int, target: int) -> SwitchRecord:
    """The record of a switch that this process begins."""
    return SwitchRecord(origin, target, Stage.PREPARING, time.time(), 0, 0.0).taken_over()


def write(home: Path, record: SwitchRecord) -> None:
    """Writes it atomically. Raises `CannotWrite`: a switch that cannot be recorded must stop."""
    file = paths.releases(home) / FILE
    with disk.writing(file):
        disk.refresh(file, json.dumps(asdict(record)).encode())


def remove(home: Path) -> None:
    """Removes it, because nothing is left to do. Raises `CannotWrite`."""
    file = paths.releases(home) / FILE
    with disk.writing(file):
        file.unlink(missing_ok=True)


def read(home: Path) -> SwitchRecord | None:
    """The record of a switch that is under way or was interrupted; None if there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = json.loads((paths.releases(home) / FILE).read_text())
        return SwitchRecord(**found | {"stage": Stage(found["stage"]), "ran": tuple(found["ran"])})
    return None


def refuse_others(home: Path) -> None:
    """Raises `Conflict` if another process switches to another release and this command is no step of it."""
    found = read(home)
    if found is None or found.interrupted or os.getpid() == found.pid or os.environ.get(PART_OF) == str(found.pid):
        return
    raise Conflict(
        f"`{found.command}` is {found.stage} here (pid {found.pid}): wait for it, or end it (`kill {found.pid}`): "
        "it goes back to the release before, then ends"
    )
