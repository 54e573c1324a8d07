"""The deaths of processes in supervisord's log."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bisnesctl.logs import files

#: The name of supervisord's own log, below the folder of logs.
SUPERVISORD_LOG = "supervisord.log"
#: Seconds within which ends of a process are recent.
RECENT_SECONDS = 600.0
#: Lines at the end of supervisord's log among which an end that was just noticed is.
_LAST_LINES = 200

# 2026-01-31 12:00:00,000 WARN exited: api-0 (exit status 1; not expected)
_EXIT = re.compile(r"^\S+ \S+ \w+ exited: (?P<name>\S+) \((?P<how>[^;)]+)")
# 2026-01-31 12:00:00,000 WARN stopped: api-0 (exit status 0)
_STOP = re.compile(r"^\S+ \S+ \w+ stopped: (?P<name>\S+) \(")
# terminated by SIGSEGV (core dumped)
_SIGNAL = re.compile(r"terminated by (?P<signal>.+)")
_BOOT = re.compile(r"^\S+ \S+ \w+ supervisord started with pid \d+")


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


def read_exits(log: Path) -> dict[str, Exits]:
    """The deaths by process in supervisord's log; empty if it cannot be read."""
    try:
        with log.open(errors="replace") as lines:
            return parse_exits(lines)
    except OSError:
        return {}


def last_signal(log: Path, name: str) -> str:
    """The signal that ended a process a moment ago, such as `SIGKILL`; empty if supervisord's log does not say it."""
    for line in files.newest(log, _LAST_LINES):
        if (match := _EXIT.match(line)) and match["name"] == name:
            killed = _SIGNAL.match(match["how"])
            return killed["signal"].split()[0] if killed else ""
    return ""


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
