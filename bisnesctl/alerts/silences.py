"""Silences: operators' decisions not to be notified of some incidents for a time. Commands write them to a file."""

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bisnesctl.alerts.incidents import Incident
from bisnesctl.host import disk, file_lock

#: The file, below `run_dir`.
SILENCES_FILE = "silences.json"
_LOCK = "silences.lock"


@dataclass(frozen=True)
class Silence:
    """One silence."""

    #: A signal, a signal with labels, or a pattern with `*`.
    name: str
    #: Seconds since the epoch.
    until: float
    #: The user who typed the command.
    by: str
    at: float
    reason: str = ""

    def covers(self, name: str, signal: str) -> bool:
        """Whether it covers an incident of this name and signal."""
        return self.name in (name, signal) or any(_pattern(self.name).fullmatch(each) for each in (name, signal))


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)


def read(run_dir: Path, now: float | None = None) -> list[Silence]:
    """The silences that are in force, the one that ends first first; empty if there is no file, or it is damaged."""
    try:
        found = [Silence(**each) for each in json.loads((run_dir / SILENCES_FILE).read_text())]
        at = time.time() if now is None else now
        return sorted((each for each in found if each.until > at), key=lambda each: each.until)
    except (OSError, ValueError, TypeError):
        return []


def covering(silences: Sequence[Silence], incident: Incident) -> Silence | None:
    """The silence that covers an incident the longest."""
    found = [each for each in silences if each.covers(incident.name, incident.signal)]
    return max(found, key=lambda each: each.until, default=None)


def add(run_dir: Path, silence: Silence) -> None:
    """Adds a silence, in place of one with the same name. Raises `CannotWrite`."""
    with _locked(run_dir):
        _write(run_dir, [*(each for each in read(run_dir) if each.name != silence.name), silence])


def remove(run_dir: Path, name: str) -> bool:
    """Ends the silence of this name; returns whether there was one. Raises `CannotWrite`."""
    with _locked(run_dir):
        found = read(run_dir)
        kept = [each for each in found if each.name != name]
        if kept != found:
            _write(run_dir, kept)
        return kept != found


def _write(run_dir: Path, silences: Sequence[Silence]) -> None:
    with disk.writing(run_dir / SILENCES_FILE):
        disk.refresh(run_dir / SILENCES_FILE, json.dumps([asdict(each) for each in silences]).encode())


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """Excludes other commands that change the file; each holds the lock for a moment only."""
    with disk.writing(run_dir / _LOCK):
        handle = file_lock.open_file(run_dir / _LOCK)
    try:
        file_lock.wait(handle)
        yield
    finally:
        os.close(handle)
