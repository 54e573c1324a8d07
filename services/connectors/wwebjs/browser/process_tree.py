"""Process trees according to /proc: a process, its descendants and the members of its session."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bisnesctl.host import process_memory

#: How long processes may take to end after the first SIGKILL.
KILL_TIMEOUT_SECONDS = 5.0
#: The pause between two looks at whether they have ended.
_POLL_SECONDS = 0.01


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int
    ended: bool  # a zombie, or about to be one


def members(leader: int, roots: frozenset[int] = frozenset()) -> set[int]:
    """The running processes of a session leader: it, its descendants, its session, and the descendants of `roots`."""
    found = {each.pid: each for each in _all()}
    below = {leader, *roots}
    # Parents usually have lower ids than their children, but not always, because ids are reused.
    while fresh := {pid for pid, each in found.items() if each.parent in below or each.session == leader} - below:
        below |= fresh
    return {pid for pid in below if pid in found and not found[pid].ended}


def kill(leader: int, known: frozenset[int] = frozenset()) -> bool:
    """End a process tree and the processes in `known` by SIGKILL; returns whether all have ended.

    The first signals are sent before the deadline begins, and before the walk over all of /proc, which takes seconds on
    a busy machine. Processes in an uninterruptible wait are left behind after `KILL_TIMEOUT_SECONDS`. The leader must
    be a child that was not waited for, so that its id is not reused.
    """
    seen = {leader, *known, *descendants(leader)}
    _send_kill(seen)
    deadline = time.monotonic() + KILL_TIMEOUT_SECONDS
    while True:
        left = members(leader, frozenset(seen)) | _running(seen)
        _send_kill(left)
        seen |= left
        if not left or time.monotonic() >= deadline:
            return not left
        time.sleep(_POLL_SECONDS)


def kill_below(pid: int) -> None:
    """Send SIGKILL to all descendants of a process, and to the rest of their sessions."""
    below = descendants(pid)
    _send_kill(below)
    for each in below:
        _send_kill(members(each) - {pid})


def _send_kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> set[int]:
    """The descendants of a process, according to the parents alone."""
    found, new = set[int](), [pid]
    while new:
        below = [child for each in new for child in _children(each)]
        new = [child for child in below if child not in found]
        found |= set(new)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def memory(leader: int) -> int:
    """Bytes used by a process tree; shared pages count in proportion (PSS)."""
    return process_memory.total(members(leader))


def _all() -> list[_Process]:
    return [each for name in os.listdir("/proc") if name.isdigit() and (each := _read(int(name)))]  # noqa: PTH208


def _running(pids: Iterable[int]) -> set[int]:
    return {pid for pid in pids if (each := _read(pid)) and not each.ended}


def _read(pid: int) -> _Process | None:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, parent, _, session = after_name[:4]
    return _Process(pid, int(parent), int(session), state in "ZXx")
