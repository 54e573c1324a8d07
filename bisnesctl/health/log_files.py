"""Reads log files: the last lines, new lines across rotations, and the deaths in supervisord's log.

The files are read directly and not through supervisord, which loses lines at high rates and may not run.
"""

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

#: Seconds within which ends of a process are recent.
RECENT_SECONDS = 600.0
#: Bytes read at a time from the end of a file.
_BLOCK_BYTES = 64 * 1024

# 2026-01-31 12:00:00,000 WARN exited: api-0 (exit status 1; not expected)
_EXIT = re.compile(r"^\S+ \S+ \w+ exited: (?P<name>\S+) \((?P<how>[^;)]+)")
# 2026-01-31 12:00:00,000 WARN stopped: api-0 (exit status 0)
_STOP = re.compile(r"^\S+ \S+ \w+ stopped: (?P<name>\S+) \(")
_BOOT = re.compile(r"^\S+ \S+ \w+ supervisord started with pid \d+")


@dataclass(frozen=True)
class LogFile:
    """The file of one output stream of an instance."""

    instance: str
    path: Path
    is_error: bool


@dataclass(frozen=True)
class Exits:
    """How often a process ended by itself since it was stopped on purpose, or since supervisord started."""

    count: int
    #: The last end, such as `exit status 1` or `terminated by SIGKILL`.
    last: str
    #: When that was, as in the log: `2026-01-31 12:00:00`.
    at: str = ""
    #: How often it ended by itself within the last minutes (`RECENT_SECONDS`), also before a stop on purpose.
    recent: int = 0


def files_of(log_dir: Path, instance: str, errors_only: bool = False) -> list[LogFile]:
    """The files of its standard output and standard error, whether they exist or not."""
    error = LogFile(instance, log_dir / f"{instance}.err.log", is_error=True)
    return [error] if errors_only else [LogFile(instance, log_dir / f"{instance}.log", is_error=False), error]


def tail(path: Path, count: int) -> list[str]:
    """The last `count` lines of a file, oldest first; empty if there is no file."""
    if count <= 0:
        return []
    try:
        with path.open("rb") as stream:
            return _last_lines(stream, count)
    except FileNotFoundError:
        return []


def _last_lines(stream: BufferedReader, count: int) -> list[str]:
    end = stream.seek(0, os.SEEK_END)
    data = b""
    while end > 0 and data.count(b"\n") <= count:
        start = max(end - _BLOCK_BYTES, 0)
        stream.seek(start)
        data, end = stream.read(end - start) + data, start
    return [line.decode(errors="replace") for line in data.removesuffix(b"\n").split(b"\n") if data][-count:]


def read_exits(log: Path) -> dict[str, Exits]:
    """The deaths by process in supervisord's log; empty if it cannot be read."""
    try:
        with log.open(errors="replace") as lines:
            return parse_exits(lines)
    except OSError:
        return {}


def parse_exits(lines: Iterable[str]) -> dict[str, Exits]:
    """The deaths by process in these lines, since its last stop, or the last start of supervisord."""
    recent_since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - RECENT_SECONDS))
    found: dict[str, Exits] = {}
    for line in lines:
        if _BOOT.match(line):
            found = {}
        elif match := _EXIT.match(line):
            before = found.get(match["name"], Exits(0, ""))
            recent = before.recent + (line[:19] >= recent_since)
            found[match["name"]] = Exits(before.count + 1, match["how"], line[:19], recent)
        elif (match := _STOP.match(line)) and (before := found.pop(match["name"], Exits(0, ""))).recent:
            found[match["name"]] = Exits(0, "", "", before.recent)
    return found


@dataclass
class Follower:
    """Reads new lines of a file; a file that is replaced or truncated is read from its start."""

    path: Path
    _stream: BufferedReader | None = None
    _rest: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        self._stream = self._open()
        if self._stream is not None:
            self._stream.seek(0, os.SEEK_END)

    def lines(self) -> list[str]:
        """The complete lines that were added since the last call."""
        data = self._rest + self._read()
        if self._replaced():
            self.close()
            self._stream = self._open()
            data += self._read()
        *whole, self._rest = data.split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def close(self) -> None:
        """Closes the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read(self) -> bytes:
        return self._stream.read() if self._stream is not None else b""

    def _open(self) -> BufferedReader | None:
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            return None

    def _replaced(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        if self._stream is None:
            return True
        held = os.fstat(self._stream.fileno())
        return (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino) or there.st_size < self._stream.tell()
