"""Processes that hang: they report it themselves, or give no heartbeat.

Both are judged by facts of this machine alone: heartbeat files and CLOCK_BOOTTIME. Seconds in which a process waited
for a processor do not count: on a busy machine a slow process is slow, not dead. A silence that the guard did not
observe itself does not count either: after the whole machine was paused, every process has been silent.
"""

import contextlib
import os
import re
import signal
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from bisnesctl.health.heartbeats import Heartbeat
from bisnesctl.host import process_times, tree_memory

#: A working or recovering PostgreSQL always has one of these helper processes, except for moments.
_LIVING_POSTGRES = re.compile(rb"\b(startup|walwriter)\b")
#: The share of a silence that always counts, however long the process waited for a processor.
_MIN_COUNTED_SHARE = 0.1


def countable_silence(silent_seconds: float, waited_seconds: float) -> float:
    """Seconds of a silence that count, if the process waited for a processor for some of them."""
    return silent_seconds - min(max(waited_seconds, 0.0), (1 - _MIN_COUNTED_SHARE) * silent_seconds)


def silence(pid: int, beat: Heartbeat | None) -> float:
    """Seconds in which a process could have given a heartbeat and gave none. Raises OSError if it is gone.

    `beat`: the last heartbeat of its instance; one from before the process started is its predecessor's.
    """
    uptime = process_times.uptime(pid)
    if beat is not None and beat.age_seconds < uptime:
        return countable_silence(beat.age_seconds, process_times.waited(beat.pid) - beat.waited)
    return countable_silence(uptime, sum(process_times.waited(each) for each in tree_memory.tree(pid)))


def recovery_failed(postgres: int) -> bool:
    """Whether a PostgreSQL process runs but neither works nor recovers.

    If its recovery from a crash fails, for example because the disk is read-only, PostgreSQL 18 does not end. It waits
    for its helper processes for ever, even after the disk is writable again.
    """
    helpers: list[str] = []
    with contextlib.suppress(OSError):
        helpers = Path(f"/proc/{postgres}/task/{postgres}/children").read_text().split()
    titles = [each for each in map(_command, helpers) if each.startswith(b"postgres:")]
    return bool(titles) and not any(map(_LIVING_POSTGRES.search, titles))


def _command(pid: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def terminate(pid: int) -> None:
    """Sends SIGTERM to a process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)


def kill(pid: int) -> None:
    """Kills a process tree, the leaves first."""
    for each in reversed(tree_memory.tree(pid)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)


@dataclass
class StuckCounter:
    """Counts for how many checks in a row each process was stuck."""

    limit: int  # checks in a row after which a process counts as hung
    _counts: dict[int, int] = field(default_factory=dict)

    def count(self, stuck: Collection[int]) -> set[int]:
        """Counts the pids that are stuck at this check; returns those that hang."""
        self._counts = {pid: self._counts.get(pid, 0) + 1 for pid in stuck}
        return {pid for pid, times in self._counts.items() if times >= self.limit}
