"""The guard's state in `run/guard.json`, which outlives a SIGKILL of the guard. `bisnesctl status` reads it as well."""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from bisnesctl.guard.policy import BLOCK_SECONDS, Decision, History
from bisnesctl.health.guard_file import GUARD_FILE
from bisnesctl.host import disk
from bisnesctl.host.process_times import boottime

log = structlog.get_logger()


@dataclass(frozen=True)
class End:
    """How an instance ended by itself."""

    #: Seconds since the epoch.
    at: float
    how: str


@dataclass
class GuardState:
    """The state of the guard, which must survive its end."""

    histories: dict[str, History] = field(default_factory=dict)
    #: Pid of the supervisord whose events are counted.
    supervisor: int = 0
    #: Serial number of the last event that was recorded.
    serial: int = -1
    #: Instances that were stopped because of their memory and will be started again: name → reason.
    renewing: dict[str, str] = field(default_factory=dict)
    #: Instances that were ended because they hung, until their end is decided about: name → reason.
    hung: dict[str, str] = field(default_factory=dict)
    #: The last end of each instance that ended by itself since an operator stopped it: name → when and how.
    ends: dict[str, "End"] = field(default_factory=dict)
    #: When the last interrupted rollout that was recorded had begun, in seconds since the epoch.
    interrupted_at: float = 0.0

    def of(self, name: str) -> History:
        """An instance's history; empty if there is none."""
        return self.histories.get(name, History())

    def write(self, run_dir: Path) -> None:
        """Writes the file as a whole, or not at all. Raises `OSError`."""
        content = {
            "pid": os.getpid(),
            "beat_boottime": boottime(),
            "instances": {name: _decision(each) for name, each in self.histories.items() if each.decision},
            "histories": {name: asdict(each) for name, each in self.histories.items() if each != History()},
            "supervisor": self.supervisor,
            "serial": self.serial,
            "renewing": self.renewing,
            "hung": self.hung,
            "ends": {name: asdict(each) for name, each in self.ends.items()},
            "interrupted_at": self.interrupted_at,
        }
        disk.refresh(run_dir / GUARD_FILE, json.dumps(content).encode())


def read(run_dir: Path) -> GuardState:
    """The state of an earlier guard; an empty one if none ran since the machine was booted, or its file is damaged."""
    try:
        found = json.loads((run_dir / GUARD_FILE).read_text())
        histories = {name: _history(each) for name, each in found["histories"].items()}
        hung = dict(found.get("hung", {}))  # an earlier release does not write it
        ends = {name: End(**each) for name, each in found.get("ends", {}).items()}
        interrupted_at = float(found.get("interrupted_at", 0.0))
        state = GuardState(
            *(histories, int(found["supervisor"]), int(found["serial"]), dict(found["renewing"]), hung, ends),
            interrupted_at=interrupted_at,
        )
        return state if float(found["beat_boottime"]) <= boottime() else GuardState()
    except FileNotFoundError:
        return GuardState()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("guard.state_damaged", file=str(run_dir / GUARD_FILE), reason=str(error))
        return GuardState()


def _decision(history: History) -> dict[str, Any]:
    assert history.decision is not None  # noqa: S101 - checked by the caller
    return {**asdict(history.decision), "deaths": len(history.deaths)}


def _history(found: dict[str, Any]) -> History:
    """Times beyond any pause are on another clock, that of an earlier release."""
    now = boottime()
    decision = Decision(**found["decision"]) if found["decision"] else None
    if decision is not None and decision.at is not None and decision.at > now + BLOCK_SECONDS:
        decision = replace(decision, at=now)
    return History(
        deaths=tuple(at for at in found["deaths"] if at <= now),
        failed_starts=int(found["failed_starts"]),
        decision=decision,
        hangs=tuple(at for at in found.get("hangs", ()) if at <= now),
        hung=str(found.get("hung", "")),
        renewals=tuple(at for at in found.get("renewals", ()) if at <= now),
        renewed=str(found.get("renewed", "")),
    )
