"""The unfinished work in this home, as files that outlive a killed tool and a restarted machine.

`moving.json` exists while a rollout is under way here, and `rollback.json` while a rollback is unfinished or waits to
be confirmed. The process that works on either holds its lock, which ends with it. The program `alerts` looks whether
somebody does, and starts a command otherwise.
"""

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from bisnesctl.formatting import duration
from bisnesctl.host import disk, file_lock

#: The files, below `run_dir`.
MOVING, ROLLBACK = "moving.json", "rollback.json"


@dataclass(frozen=True)
class RollbackRecord:
    """A rollback that is unfinished, or waits to be confirmed."""

    #: When it was begun, in seconds since the epoch.
    at: float
    #: The user who began it.
    by: str
    #: The command that returns to the isolated processes.
    way_back: str
    #: Whether the legacy process serves everything.
    done: bool = False
    #: Whether no bot could be handed over, because PostgreSQL was unavailable.
    hands_over: bool = False
    #: Seconds that an operator has to confirm it once it is done; None: it needs no confirmation.
    confirm_seconds: float | None = None
    #: When it is undone unless it is confirmed, in seconds since the epoch; None: not yet, or never.
    undone_at: float | None = None


def begin_moving(run_dir: Path, rollout: int) -> None:
    """A rollout is under way here from now on. A full disk must not prevent it: then nobody continues it by itself."""
    with contextlib.suppress(OSError):
        disk.replace(run_dir / MOVING, json.dumps({"rollout": rollout}).encode())


def end_moving(run_dir: Path) -> None:
    """No rollout is under way here any more."""
    with contextlib.suppress(OSError):
        (run_dir / MOVING).unlink(missing_ok=True)


def is_moving(run_dir: Path) -> bool:
    """Whether a rollout is under way here."""
    return (run_dir / MOVING).exists()


def write_rollback(run_dir: Path, record: RollbackRecord) -> None:
    """Writes the record. A full disk must not prevent a rollback."""
    with contextlib.suppress(OSError):
        disk.refresh(run_dir / ROLLBACK, json.dumps(asdict(record)).encode())


def read_rollback(run_dir: Path) -> RollbackRecord | None:
    """The rollback that is unfinished or waits to be confirmed; None if there is none."""
    try:
        return RollbackRecord(**json.loads((run_dir / ROLLBACK).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def end_rollback(run_dir: Path) -> None:
    """The rollback is finished, or was undone."""
    with contextlib.suppress(OSError):
        (run_dir / ROLLBACK).unlink(missing_ok=True)


def describe(run_dir: Path) -> str:
    """The rollout or rollback that is under way, and the next command, as a sentence; empty if there is none."""
    record = read_rollback(run_dir)
    if record is not None and not record.done:
        return "a rollback is under way; if it was interrupted, it continues by itself"
    if record is not None and record.hands_over:
        return "a rollback is done, and its bots are handed over as soon as PostgreSQL answers"
    if record is not None and record.undone_at is not None:
        left = duration(record.undone_at - time.time())
        return f"the rollback is undone in {left}, unless you type `bisnesctl rollback confirm`"
    return "a rollout is under way: `bisnesctl rollout status`" if is_moving(run_dir) else ""


class Work:
    """The lock of a process that works on one of the files. It ends with the process."""

    def __init__(self, run_dir: Path, file: str) -> None:
        self._path = run_dir / f"{file}.lock"
        self._handle: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def take(self) -> bool:
        """Whether this process is the one that works on it. On a full disk it is: rather two of them than none."""
        if self._handle is not None:
            return True
        try:
            handle = file_lock.open_file(self._path)
        except OSError:
            return True
        if not file_lock.take(handle):
            os.close(handle)
            return False
        self._handle = handle
        return True


def is_worked_on(run_dir: Path, file: str) -> bool:
    """Whether a process works on it."""
    with Work(run_dir, file) as work:
        return not work.take()
