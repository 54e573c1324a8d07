"""A program and everything that it started, as /proc shows it: its descendants and its session."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

from bisnesctl import pss

#: Seconds that processes may take to end after SIGKILL.
_PATIENCE = 5.0


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int
    ended: bool  # a zombie, or about to be one


def members(leader: int) -> set[int]:
    """The processes of a session leader that run: it, its descendants and all of its session."""
    found = {each.pid: each for each in _all()}
    below = {leader}
    # Parents usually have lower numbers than their children; not always, as numbers begin anew.
    while fresh := {pid for pid, each in found.items() if each.parent in below or each.session == leader} - below:
        below |= fresh
    return {pid for pid in below if pid in found and not found[pid].ended}


def kill(leader: int, known: frozenset[int] = frozenset()) -> None:
    """End all of it by SIGKILL, those `known` as well, and return once nothing of it runs."""
    give_up = time.monotonic() + _PATIENCE
    while (left := members(leader) | _running(known)) and time.monotonic() < give_up:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def memory(leader: int) -> int:
    """Bytes of it, of shared pages its share (PSS)."""
    return pss.total(members(leader))


def _all() -> list[_Process]:
    return [each for name in os.listdir("/proc") if name.isdigit() and (each := _read(int(name)))]  # noqa: PTH208


def _running(pids: frozenset[int]) -> set[int]:
    return {pid for pid in pids if (each := _read(pid)) and not each.ended}


def _read(pid: int) -> _Process | None:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, parent, _, session = after_name[:4]
    return _Process(pid, int(parent), int(session), state in "ZXx")
