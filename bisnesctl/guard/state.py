"""The guard's file: what it knows outlives its SIGKILL; `bisnesctl status` reads it (`health.guard_status`)."""

import json
import logging
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bisnesctl.guard.policy import BLOCK, Decision, History
from bisnesctl.health.guard_status import FILE
from bisnesctl.host import disk

log = logging.getLogger(__name__)


def clock() -> float:
    """Seconds since the machine was started: a clock that nobody sets, so that no pause lasts longer than it should."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class State:
    """Everything that must not be forgotten."""

    histories: dict[str, History] = field(default_factory=dict)
    #: The supervisord whose events are counted, and the last one that was noted.
    supervisor: int = 0
    serial: int = -1
    #: Instances that were stopped because of their memory, and are to be started again: name → reason.
    renewing: dict[str, str] = field(default_factory=dict)
    #: Instances that were ended because they hung: name → reason, until their end is decided about.
    hung: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> History:
        """An instance's history; an empty one where nothing is known."""
        return self.histories.get(name, History())

    def write(self, run_dir: Path) -> None:
        """As a whole, or not at all. Raises `OSError`."""
        content = {
            "pid": os.getpid(),
            "beat_boottime": clock(),
            "instances": {name: _word(each) for name, each in self.histories.items() if each.decision},
            "histories": {name: asdict(each) for name, each in self.histories.items() if each != History()},
            "supervisor": self.supervisor,
            "serial": self.serial,
            "renewing": self.renewing,
            "hung": self.hung,
        }
        disk.refresh(run_dir / FILE, json.dumps(content).encode())


def read(run_dir: Path) -> State:
    """What an earlier guard knew; nothing where there was none since the machine started, or its file is no good."""
    try:
        found = json.loads((run_dir / FILE).read_text())
        histories = {name: _history(each) for name, each in found["histories"].items()}
        hung = dict(found.get("hung", {}))  # an earlier release writes none
        state = State(histories, int(found["supervisor"]), int(found["serial"]), dict(found["renewing"]), hung)
        return state if float(found["beat_boottime"]) <= clock() else State()
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is no good, the guard begins without it: %s", run_dir / FILE, error)
        return State()


def _word(history: History) -> dict[str, Any]:
    assert history.decision is not None  # noqa: S101 - told by the caller
    return {**asdict(history.decision), "deaths": len(history.deaths)}


def _history(found: dict[str, Any]) -> History:
    """What lies further ahead than anything is put off was noted by another clock, that of an earlier version."""
    now = clock()
    decision = Decision(**found["decision"]) if found["decision"] else None
    if decision is not None and decision.at is not None and decision.at > now + BLOCK:
        decision = replace(decision, at=now)
    deaths = tuple(at for at in found["deaths"] if at <= now)
    hangs, hung = tuple(at for at in found.get("hangs", ()) if at <= now), str(found.get("hung", ""))
    return History(deaths, int(found["failed_starts"]), decision, hangs, hung)
