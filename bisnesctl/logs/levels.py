"""The levels at which processes log, which can be changed for a time without a restart.

An operator writes a small file for each process, and each process looks for its own when a file of the folder changes.
A level ends by itself, and with the process: the next start logs at LOG_LEVEL again.
"""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from bisnesctl.host import disk, process_stat, process_times
from bisnesctl.host.folder_watch import FolderWatch
from bisnesctl.logs.formats import LEVELS

#: The folder of the files, below `run_dir`.
FOLDER = "log-levels"
#: Seconds between two looks of a process if no change is noticed: after the machine slept, or on a strange file system.
LOOK_INTERVAL_SECONDS = 60.0
#: The same if changes cannot be noticed.
POLL_INTERVAL_SECONDS = 1.0
#: The level of programs that do not read LOG_LEVEL.
USUAL = "info"
#: Loggers of our own code. Libraries stay at info: at debug, some log what they send.
_OURS = ("services", "bisnesctl", "__main__")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = structlog.get_logger()
_watched: set[tuple[int, str]] = set()  # processes and their instances


@dataclass(frozen=True)
class TimedLevel:
    """A level that was set for a time. Its times are those of CLOCK_BOOTTIME, which nobody can set."""

    level: str
    since: float
    until: float
    boot: str  # the machine's start to which the times belong

    def applies(self, started: float) -> bool:
        """Whether it is in force for a process that started then (CLOCK_BOOTTIME)."""
        return self.boot == _boot() and started <= self.since and process_times.boottime() < self.until

    @property
    def seconds_left(self) -> float:
        """Seconds until it ends."""
        return max(self.until - process_times.boottime(), 0.0)

    @property
    def ends_at(self) -> float:
        """When it ends, in seconds since the epoch."""
        return time.time() + self.until - process_times.boottime()


def write(run_dir: Path, instance: str, level: str, seconds: float) -> TimedLevel:
    """Sets the level of an instance for some seconds from now."""
    now = process_times.boottime()
    timed = TimedLevel(level, now, now + seconds, _boot())
    path = _path(run_dir, instance)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    disk.replace(path, json.dumps(asdict(timed)).encode())
    return timed


def clear(run_dir: Path, instance: str) -> None:
    """Returns an instance to LOG_LEVEL."""
    _path(run_dir, instance).unlink(missing_ok=True)


def read(run_dir: Path, instance: str) -> TimedLevel | None:
    """The level that was set for an instance; None if there is none, or the file is damaged."""
    try:
        found = TimedLevel(**json.loads(_path(run_dir, instance).read_bytes()))
        numbers = float(found.since), float(found.until)
    except (OSError, ValueError, TypeError):
        return None
    return found if found.level in LEVELS and all(number >= 0 for number in numbers) else None


def apply(level: str) -> None:
    """Makes this process log at a level."""
    rank = LEVELS[level]
    for name in _OURS:
        logging.getLogger(name).setLevel(rank)
    logging.getLogger().setLevel(max(rank, logging.INFO))


class LevelWatch:
    """Applies the levels that are set for an instance."""

    def __init__(self, run_dir: Path, instance: str, usual: str, apply: Callable[[str], None] = apply) -> None:
        """`usual`: the level at all other times."""
        self._run_dir, self._instance, self._usual, self._apply = run_dir, instance, usual, apply
        self.folder = run_dir / FOLDER
        self._started = process_stat.read(os.getpid()).started_at
        self._seen: tuple[int, int] | None = None  # of the file: its inode and when it was changed
        self._timed: TimedLevel | None = None
        self._level = usual

    def look(self) -> float:
        """Applies the level that is in force now, if it has changed; returns the seconds until the next look."""
        seen = self._stat()
        if seen != self._seen:
            self._seen, self._timed = seen, read(self._run_dir, self._instance) if seen else None
        timed = self._timed if self._timed is not None and self._timed.applies(self._started) else None
        level = timed.level if timed else self._usual
        if level != self._level:
            self._apply(min(level, self._level, key=LEVELS.__getitem__))  # the line is written in any case of the two
            log.info("log_level.changed", to=level, before=self._level)
            self._apply(level)
            self._level = level
        return LOOK_INTERVAL_SECONDS if timed is None else min(timed.seconds_left, LOOK_INTERVAL_SECONDS)

    def _stat(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            found = _path(self._run_dir, self._instance).stat()
            return found.st_ino, found.st_mtime_ns
        return None


def watch(run_dir: Path, instance: str, usual: str) -> None:
    """Applies the levels that are set for an instance from now on, on a thread of its own; once in a process."""
    if (os.getpid(), instance) not in _watched:
        _watched.add((os.getpid(), instance))
        looks = LevelWatch(run_dir, instance, usual)
        threading.Thread(target=_look_on, args=(looks,), name="log-level", daemon=True).start()


def _look_on(looks: LevelWatch) -> None:
    folder: FolderWatch | None = None
    while True:
        try:
            folder = folder or FolderWatch(looks.folder)
            looks.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.begin()
        except OSError:  # a full disk, or a user with too many watches
            looks.look()
            time.sleep(POLL_INTERVAL_SECONDS)
        else:
            folder.wait(looks.look())


def _path(run_dir: Path, instance: str) -> Path:
    return run_dir / FOLDER / f"{instance}.json"


def _boot() -> str:
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""
