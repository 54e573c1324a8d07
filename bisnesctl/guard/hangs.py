"""Processes that hang: they say so, or give no sign of life. Both are judged by what this machine alone knows:
heartbeat files and CLOCK_BOOTTIME.

Seconds in which a process waited for a processor are not counted: on a busy machine a slow process is slow, not dead.
Nor is a silence that the guard did not see itself: after a pause of the whole machine all have been silent.
"""

import contextlib
import os
import re
import signal
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from bisnesctl.guard import memory
from bisnesctl.health.probes import Beat
from bisnesctl.host import process_times

#: Bytes that a heartbeat has, at most.
_LARGEST_BEAT_BYTES = 8192
#: Of these processes PostgreSQL has one at all times, but for moments: while it recovers, and while it works.
_OF_LIVING_POSTGRES = re.compile(rb"\b(startup|walwriter)\b")
#: Part of a silence that counts, however much of it the process waited for a processor.
_LEAST_PART = 0.1


def judge(since: float, waited: float) -> float:
    """Seconds of a silence that count: it began so many seconds ago, and for so many the process waited."""
    return since - min(max(waited, 0.0), (1 - _LEAST_PART) * since)


def silence(pid: int, beat: Beat | None) -> float:
    """Seconds in which a process could have given a sign of life and gave none. Raises OSError if it is gone.

    `beat`: the last one under its name; one that was given before it started is its predecessor's.
    """
    uptime = process_times.uptime(pid)
    if beat is not None and beat.age < uptime:
        return judge(beat.age, process_times.waited(beat.pid) - beat.waited)
    return judge(uptime, sum(process_times.waited(each) for each in memory.tree(pid)))


def can_beat(folder: Path) -> bool:
    """Whether heartbeats can be written there: on a full or read-only disk nobody gives a sign of life."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_LARGEST_BEAT_BYTES))
            file.flush()
    except OSError:
        return False
    return True


def recovery_failed(postgres: int) -> bool:
    """Whether a PostgreSQL neither works nor recovers, though it runs.

    If its recovery from a crash fails, because the disk is read-only, say, PostgreSQL 18 does not end but waits for its
    own helpers for ever, whatever becomes of the disk.
    """
    helpers: list[str] = []
    with contextlib.suppress(OSError):
        helpers = Path(f"/proc/{postgres}/task/{postgres}/children").read_text().split()
    titles = [each for each in map(_command, helpers) if each.startswith(b"postgres:")]
    return bool(titles) and not any(map(_OF_LIVING_POSTGRES.search, titles))


def _command(pid: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def terminate(pid: int) -> None:
    """Tell a process to end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)


def kill(pid: int) -> None:
    """Kill a process with its whole tree, the leaves first."""
    for each in reversed(memory.tree(pid)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)


@dataclass
class Silences:
    """How often in a row the guard has seen each process silent, or otherwise stuck."""

    looks: int  # in a row, until a process counts as hung
    _seen: dict[int, int] = field(default_factory=dict)

    def see(self, silent: Collection[int]) -> set[int]:
        """These are silent now; returns those that hang."""
        self._seen = {pid: self._seen.get(pid, 0) + 1 for pid in silent}
        return {pid for pid, times in self._seen.items() if times >= self.looks}
