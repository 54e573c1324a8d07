"""What supervisord's log says about deaths: how often a process ended by itself, and how it last did."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# 2026-01-31 12:00:00,000 WARN exited: api-0 (exit status 1; not expected)
_EXIT = re.compile(r"^\S+ \S+ \w+ exited: (?P<name>\S+) \((?P<how>[^;)]+)")
_BOOT = re.compile(r"^\S+ \S+ \w+ supervisord started with pid \d+")


@dataclass(frozen=True)
class Exits:
    """Deaths of one process since supervisord started, those that somebody asked for left out."""

    count: int
    #: How the last one was, such as `exit status 1` or `terminated by SIGKILL`.
    last: str


def read(log: Path) -> dict[str, Exits]:
    """The deaths by process, from supervisord's log; empty where it cannot be read."""
    try:
        with log.open(errors="replace") as lines:
            return parse(lines)
    except OSError:
        return {}


def parse(lines: Iterable[str]) -> dict[str, Exits]:
    """The deaths by process in these lines, counted from the last start of supervisord in them."""
    found: dict[str, Exits] = {}
    for line in lines:
        if _BOOT.match(line):
            found = {}
        elif match := _EXIT.match(line):
            before = found.get(match["name"], Exits(0, ""))
            found[match["name"]] = Exits(before.count + 1, match["how"])
    return found
