"""What the guard says: whether it is on duty, and what becomes of a process that ended.

Its file `run/guard.json` holds its `pid`, the `beat_boottime` of its last sign of life (seconds of CLOCK_BOOTTIME)
and, for each of the `instances` that ended by itself, the `decision` about it: `restart` or `block` until `at` (on the
same clock; none: until somebody starts it), or `fail`; with the `reason`, and the quick `deaths` in a row.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bisnesctl.host import disk
from bisnesctl.processes.supervisor import Process
from bisnesctl.settings import Settings

#: Seconds that a guard may take until its first sign of life.
BOOT = 10.0
#: Seconds for which a hang is shown.
HANGS_SHOWN_SECONDS = 3600.0
#: The guard's instance, and its file below `run_dir`.
NAME, FILE = "guard", "guard.json"


@dataclass(frozen=True)
class Word:
    """The guard's decision about an instance: `restart`, `block` or `fail`."""

    decision: str
    reason: str
    #: Quick deaths in a row.
    deaths: int


@dataclass(frozen=True)
class GuardStatus:
    """The guard as it is now."""

    #: Why it does not restart anything; empty where it is on duty.
    off_duty: str
    words: Mapping[str, Word]
    #: What hung lately: name → how often, when and why.
    hangs: Mapping[str, str] = field(default_factory=dict)

    def word(self, name: str) -> Word | None:
        """Its decision about an instance that ended; none where there is none yet."""
        return self.words.get(name)


def guard(processes: Mapping[str, Process], settings: Settings) -> GuardStatus:
    """How the guard is, from what supervisord knows and from its file."""
    process, said = processes.get(NAME), _read(settings.run_dir / FILE)
    if process is None or not process.active:
        return GuardStatus("the guard is down", said.words if said else {}, said.hangs if said else {})
    if said is None or said.pid != process.pid:
        return GuardStatus(
            "" if process.uptime < BOOT or _unwritable(settings) else "the guard shows no sign of life", {}
        )
    late = said.age * 1000 > settings.max_heartbeat_age and not _unwritable(settings)
    return GuardStatus(f"the guard shows no sign of life for {said.age:.0f} s" if late else "", said.words, said.hangs)


def hangs(run_dir: Path) -> Mapping[str, str]:
    """What hung here lately, by instance: how often, when and why."""
    said = _read(run_dir / FILE)
    return said.hangs if said else {}


def _unwritable(settings: Settings) -> bool:
    """Whether a guard on duty could not say so: the disk takes nothing."""
    return disk.write_refusal(settings.run_dir) is not None


@dataclass(frozen=True)
class _Said:
    """What is in its file."""

    pid: int
    #: Seconds since its last sign of life.
    age: float
    words: dict[str, Word]
    hangs: dict[str, str]


def _read(file: Path) -> _Said | None:
    try:
        found = json.loads(file.read_text())
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - float(found["beat_boottime"])
        words = {name: _word(each) for name, each in found["instances"].items()}
        hangs = {name: told for name, each in found.get("histories", {}).items() if (told := _hangs(each))}
        return _Said(int(found["pid"]), age, words, hangs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _word(found: dict[str, Any]) -> Word:
    decision, at = str(found["decision"]), float(found.get("at") or 0)
    return Word(decision, f"{_when(decision, at)}{found['reason']}", int(found.get("deaths", 0)))


def _hangs(history: dict[str, Any]) -> str:
    """How often it hung within the last hour, when at last and why; empty if it did not."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    times = [float(at) for at in history.get("hangs", ()) if now - float(at) < HANGS_SHOWN_SECONDS]
    if not times:
        return ""
    often = "once" if len(times) == 1 else f"{len(times)} times"
    at = time.strftime("%H:%M", time.localtime(time.time() - now + times[-1]))
    return f"hung {often} within an hour, last at {at}: {history['hung']}"


def _when(decision: str, at: float) -> str:
    left = at - time.clock_gettime(time.CLOCK_BOOTTIME)
    if decision == "restart":
        return f"restarting in {max(left, 0):.0f} s: "
    if decision == "block":
        return f"blocked until {time.strftime('%H:%M', time.localtime(time.time() + left))}: " if at else "blocked: "
    return ""
