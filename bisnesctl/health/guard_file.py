"""The guard's file `run/guard.json`, as other programs read it: whether the guard is on duty, decisions and hangs.

The file has the guard's `pid`, its `beat_boottime` (its last heartbeat, in seconds of CLOCK_BOOTTIME) and, under
`instances`, a `decision` for each instance that ended by itself: `restart` or `block` until `at` (on the same clock;
null: until an operator starts it), or `fail`; with a `reason` and the number of quick `deaths` in a row. `histories`
has the hangs of each instance. `bisnesctl.guard.state_file` writes it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bisnesctl.host import disk
from bisnesctl.host.process_stat import is_alive
from bisnesctl.host.process_times import boottime
from bisnesctl.processes.supervisor import Process
from bisnesctl.settings import Settings

#: Seconds that the guard may take until its first heartbeat.
GUARD_BOOT_SECONDS = 10.0
#: Seconds for which a hang is shown.
HANGS_SHOWN_SECONDS = 3600.0
#: The guard's instance.
GUARD = "guard"
#: The guard's file, below `run_dir`.
GUARD_FILE = "guard.json"


@dataclass(frozen=True)
class GuardDecision:
    """The guard's decision about an instance that ended: `restart`, `block` or `fail`."""

    decision: str
    reason: str
    #: Quick deaths in a row.
    deaths: int


@dataclass(frozen=True)
class GuardStatus:
    """The guard as it is now."""

    #: Why it restarts nothing; empty if it is on duty.
    off_duty: str
    decisions: Mapping[str, GuardDecision]
    #: Recent hangs, and restarts because of memory: instance → how often, when and why.
    hangs: Mapping[str, str] = field(default_factory=dict)
    #: How each instance ended last, since an operator stopped it.
    ends: Mapping[str, str] = field(default_factory=dict)


def guard_status(processes: Mapping[str, Process], settings: Settings) -> GuardStatus:
    """The guard's status, from supervisord and from the guard's file."""
    process, file = processes.get(GUARD), _read_guard_file(settings.run_dir / GUARD_FILE)
    if process is None or not process.active:
        if file is None:
            return GuardStatus("the guard is down", {})
        return GuardStatus("the guard is down", file.decisions, file.hangs, file.ends)
    if file is None or file.pid != process.pid:
        excused = process.uptime < GUARD_BOOT_SECONDS or _is_unwritable(settings)
        return GuardStatus("" if excused else "the guard gives no heartbeat", {})
    late = file.age_seconds * 1000 > settings.max_heartbeat_age and not _is_unwritable(settings)
    off_duty = f"the guard has given no heartbeat for {file.age_seconds:.0f} s" if late else ""
    return GuardStatus(off_duty, file.decisions, file.hangs, file.ends)


def is_beating(settings: Settings) -> bool:
    """Whether the guard gave a heartbeat within the time that the settings allow. supervisord is not asked."""
    file = _read_guard_file(settings.run_dir / GUARD_FILE)
    return file is not None and is_alive(file.pid) and file.age_seconds * 1000 <= settings.max_heartbeat_age


def recent_hangs(run_dir: Path) -> Mapping[str, str]:
    """Recent hangs by instance: how often, when and why."""
    file = _read_guard_file(run_dir / GUARD_FILE)
    return file.hangs if file else {}


def heartbeat_age(run_dir: Path) -> float | None:
    """Seconds since the guard's last heartbeat; None if it never gave one."""
    file = _read_guard_file(run_dir / GUARD_FILE)
    return None if file is None else max(file.age_seconds, 0.0)


@dataclass(frozen=True)
class RecentRestarts:
    """How often an instance ended or was restarted within the last hour because of one cause."""

    #: quick_death (in a row), hang or memory.
    cause: str
    count: int
    #: The last time, in words.
    reason: str


def recent_restarts(run_dir: Path) -> Mapping[str, Sequence[RecentRestarts]]:
    """The restarts of each instance within the last hour, by cause."""
    file = _read_guard_file(run_dir / GUARD_FILE)
    return file.restarts if file else {}


def _is_unwritable(settings: Settings) -> bool:
    """Whether the guard cannot write its heartbeat because the disk is full or read-only."""
    return disk.write_refusal(settings.run_dir) is not None


@dataclass(frozen=True)
class _GuardFile:
    pid: int
    age_seconds: float
    decisions: dict[str, GuardDecision]
    hangs: dict[str, str]
    ends: dict[str, str]
    restarts: dict[str, list[RecentRestarts]]


def _read_guard_file(file: Path) -> _GuardFile | None:
    try:
        found = json.loads(file.read_text())
        return _GuardFile(
            pid=int(found["pid"]),
            age_seconds=boottime() - float(found["beat_boottime"]),
            decisions={name: _decision(each) for name, each in found["instances"].items()},
            hangs={name: text for name, each in found.get("histories", {}).items() if (text := _incidents(each))},
            ends={name: str(each["how"]) for name, each in found.get("ends", {}).items()},
            restarts={name: _restarts(each) for name, each in found.get("histories", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _decision(found: dict[str, Any]) -> GuardDecision:
    decision, at = str(found["decision"]), float(found.get("at") or 0)
    return GuardDecision(decision, f"{_when(decision, at)}{found['reason']}", int(found.get("deaths", 0)))


def _when(decision: str, at: float) -> str:
    left = at - boottime()
    if decision == "restart":
        return f"restarting in {max(left, 0):.0f} s: "
    if decision == "block":
        return f"blocked until {time.strftime('%H:%M', time.localtime(time.time() + left))}: " if at else "blocked: "
    return ""


def _incidents(history: dict[str, Any]) -> str:
    """How often an instance hung or was restarted because of its memory within the last hour, and when and why last."""
    hung = _recently("hung", history.get("hangs", ()), str(history.get("hung", "")))
    return "; ".join(
        filter(None, (hung, _recently("restarted", history.get("renewals", ()), history.get("renewed", ""))))
    )


def _restarts(history: dict[str, Any]) -> list[RecentRestarts]:
    decision = history.get("decision") or {}
    causes = (
        ("quick_death", "deaths", decision.get("reason", "")),
        ("hang", "hangs", history.get("hung", "")),
        ("memory", "renewals", history.get("renewed", "")),
    )
    return [RecentRestarts(cause, len(_within_an_hour(history.get(key, ()))), str(why)) for cause, key, why in causes]


def _within_an_hour(times: Sequence[float]) -> list[float]:
    now = boottime()
    return [float(at) for at in times if now - float(at) < HANGS_SHOWN_SECONDS]


def _recently(what: str, times: Sequence[float], reason: str) -> str:
    now, recent = boottime(), _within_an_hour(times)
    if not recent:
        return ""
    often = "once" if len(recent) == 1 else f"{len(recent)} times"
    return f"{what} {often} within an hour, last at {_clock(time.time() - now + recent[-1])}: {reason}"


def _clock(at: float) -> str:
    """The time of day, with the date if it was another day."""
    then, now = time.localtime(at), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)
