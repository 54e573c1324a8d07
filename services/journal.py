"""Which of a worker's messages were handed to the network: a small file that outlives the worker's SIGKILL.

A worker marks a message right before its bytes go to the socket and clears the mark once the outcome is in the
database. What a dead worker had claimed but not marked never left and may be sent by another; what is marked may
have left and is `unknown`. The marks live in the page cache, so they survive the process but not the machine: a
journal of an earlier boot says nothing, and then everything that was claimed counts as marked.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HEADER = 64  # bytes: the worker's name for this run, and the boot of the machine
_MARK = struct.Struct("=q")


class JournalInUse(Exception):
    """Another process runs under the same instance name."""


class Journal:
    """The marks of one running worker. The file stays locked as long as the process lives."""

    def __init__(self, path: Path, slots: int) -> None:
        """Lock the file; the marks of an earlier run stay readable until `begin`. Raises `JournalInUse`."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._slots = slots
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise JournalInUse(f"another process holds {path}") from error
        self._marks: mmap.mmap | None = None

    def begin(self, run: str) -> None:
        """Drop the earlier marks and keep those of this run, called `run`."""
        os.ftruncate(self._file, 0)
        os.ftruncate(self._file, _HEADER + self._slots * _MARK.size)
        os.pwrite(self._file, _stamp(run), 0)
        self._marks = mmap.mmap(self._file, 0)

    def mark(self, slot: int, message: int) -> None:
        """The message (its outbox id) in this slot is about to leave."""
        assert self._marks is not None, "begin() comes first"  # noqa: S101
        _MARK.pack_into(self._marks, _HEADER + slot * _MARK.size, message)

    def clear(self, slot: int) -> None:
        """The outcome of the slot's message is in the database."""
        self.mark(slot, 0)

    def close(self) -> None:
        """Let go of the file; its marks stay."""
        if self._marks is not None:
            self._marks.close()  # it has a descriptor of its own, and with it the lock
        os.close(self._file)


def marked(path: Path, run: str) -> set[int] | None:
    """The messages that the run may have sent; None where nothing can be said, so all of them may have been."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if content[:_HEADER] != _stamp(run):
        return None
    return {message for (message,) in _MARK.iter_unpack(content[_HEADER:]) if message}


def is_of(path: Path, run: str) -> bool:
    """Whether the journal keeps the marks of that run, on this boot of the machine."""
    return marked(path, run) is not None


@contextmanager
def unowned(path: Path) -> Iterator[bool]:
    """Whether no living process owns the journal; it stays so inside the block."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(file)


def _stamp(run: str) -> bytes:
    machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{run} {machine}".encode().ljust(_HEADER, b"\0")[:_HEADER]
