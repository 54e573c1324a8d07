"""Deliberate stops: `run/stops.json` records what an operator stopped, when, and who it was.

An instance that is not in it and does not run is down. A start removes the records of the instances that it starts.
"""

import getpass
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bisnesctl.host import disk

#: The file, below `run_dir`.
STOPS_FILE = "stops.json"
#: The name under which a stop of everything is recorded.
EVERYTHING = "*"


@dataclass(frozen=True)
class StopRecord:
    """One deliberate stop."""

    #: Seconds since the epoch.
    at: float
    #: The user who typed the command.
    by: str

    @property
    def text(self) -> str:
        """The record for people."""
        return f"on purpose by {self.by} at {time.strftime('%Y-%m-%d %H:%M', time.localtime(self.at))}"

    @property
    def brief(self) -> str:
        """The author and the time, without the day if it was today."""
        at, today = time.localtime(self.at), time.localtime()
        form = "%H:%M" if (at.tm_year, at.tm_yday) == (today.tm_year, today.tm_yday) else "%Y-%m-%d %H:%M"
        return f"by {self.by}, {time.strftime(form, at)}"


def operator() -> str:
    """The user who typed this command: of sudo, or of the process."""
    try:
        own = getpass.getuser()
    except (KeyError, OSError):
        own = f"user {os.geteuid()}"
    return os.environ.get("SUDO_USER") or own


def read(run_dir: Path) -> Mapping[str, StopRecord]:
    """The records by the name of the instance, or `EVERYTHING`; empty if there are none, or the file is damaged."""
    try:
        found = json.loads((run_dir / STOPS_FILE).read_text())
        return {str(name): StopRecord(float(each["at"]), str(each["by"])) for name, each in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def add(run_dir: Path, names: Iterable[str]) -> None:
    """Records that these are stopped on purpose. Raises `CannotWrite`."""
    _write(run_dir, {**read(run_dir), **dict.fromkeys(names, StopRecord(time.time(), operator()))})


def remove(run_dir: Path, names: Iterable[str]) -> None:
    """Removes the records of these, and of a stop of everything. Raises `CannotWrite`."""
    found, gone = read(run_dir), {*names, EVERYTHING}
    kept = {name: each for name, each in found.items() if name not in gone}
    if kept != found:
        _write(run_dir, kept)


def _write(run_dir: Path, records: Mapping[str, StopRecord]) -> None:
    content = json.dumps({name: asdict(each) for name, each in records.items()}).encode()
    with disk.writing(run_dir / STOPS_FILE):
        disk.refresh(run_dir / STOPS_FILE, content)
