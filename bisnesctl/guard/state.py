"""The guard's file: what it knows outlives its SIGKILL, and `bisnesctl status` reads it (see `bisnesctl.watch`)."""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bisnesctl.guard.policy import Decision, History
from bisnesctl.render import File
from bisnesctl.watch import FILE


@dataclass
class State:
    """Everything that must not be forgotten."""

    histories: dict[str, History] = field(default_factory=dict)
    #: The supervisord whose events are counted, and the last one that was noted.
    supervisor: int = 0
    serial: int = -1
    #: Instances that were stopped because of their memory, and are to be started again: name → reason.
    renewing: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> History:
        """An instance's history; an empty one where nothing is known."""
        return self.histories.get(name, History())

    def write(self, run_dir: Path) -> None:
        """As a whole, or not at all."""
        content = {
            "pid": os.getpid(),
            "beat_boottime": time.clock_gettime(time.CLOCK_BOOTTIME),
            "instances": {name: _word(each) for name, each in self.histories.items() if each.decision},
            "histories": {name: asdict(each) for name, each in self.histories.items() if each != History()},
            "supervisor": self.supervisor,
            "serial": self.serial,
            "renewing": self.renewing,
        }
        File(FILE, json.dumps(content)).write(run_dir)


def read(run_dir: Path) -> State:
    """What an earlier guard knew; nothing where there was none, or its file cannot be read."""
    try:
        found = json.loads((run_dir / FILE).read_text())
        histories = {name: _history(each) for name, each in found["histories"].items()}
        return State(histories, int(found["supervisor"]), int(found["serial"]), dict(found["renewing"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()


def _word(history: History) -> dict[str, Any]:
    assert history.decision is not None  # noqa: S101 - told by the caller
    return {**asdict(history.decision), "deaths": len(history.deaths)}


def _history(found: dict[str, Any]) -> History:
    decision = Decision(**found["decision"]) if found["decision"] else None
    return History(tuple(found["deaths"]), int(found["failed_starts"]), decision)
