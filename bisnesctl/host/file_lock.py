"""Locks on files. The kernel releases a lock when the process that holds it ends, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def open_file(path: Path) -> int:
    """The descriptor of a lock file, which is created if needed; no child inherits it. Raises `OSError`."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def take(descriptor: int) -> bool:
    """Takes the lock unless another process holds it; returns whether it did."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait(descriptor: int) -> None:
    """Takes the lock once no other process holds it: for locks that everybody holds for a moment only."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def attempt(path: Path) -> Iterator[bool]:
    """Holds the lock within the context, unless another process holds it; yields whether it does. Raises `OSError`."""
    descriptor = open_file(path)
    try:
        yield take(descriptor)
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_holder(descriptor: int, words: str) -> None:
    """Notes the holder of the lock. A full disk prevents nothing."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, words.encode(), 0)


def holder(path: Path) -> str:
    """The holder of the lock; empty if it is not known."""
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""
