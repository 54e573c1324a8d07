"""Which of a worker's messages were handed to the network: a small file that outlives the worker's SIGKILL.

A worker marks a message right before its bytes go to the socket and clears the mark once the outcome is in the
database. What a dead worker had claimed but not marked never left and may be sent by another; what is marked may
have left and is `unknown`. The marks live in the page cache, so they survive the process but not the machine: a
journal of an earlier boot says nothing, and then everything that was claimed counts as marked.
"""

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from bisnesctl.host import disk

_HEADER = 64  # bytes: the worker's name for this run, and the boot of the machine
_MARK = struct.Struct("=q")
#: Seconds between two tries to write a journal that could not be written.
RETRY_INTERVAL_SECONDS = 1.0

log = structlog.get_logger()


class JournalInUse(Exception):
    """Another process runs under the same instance name."""


class Journal:
    """The marks of one running worker. The file stays locked as long as the process lives.

    All of it is written at the beginning, so that marks take no further space on a disk that is full by then. A mark
    that cannot be written is an `OSError`: what it stands for must not leave, for nobody would know that it may have.
    """

    def __init__(self, path: Path, slots: int) -> None:
        """Lock the file, unless the disk refuses; then `begin` does. Raises `JournalInUse`."""
        self._path, self._slots, self._stamp = path, slots, b""
        self._file: int | None = None
        self._retry_due = 0.0  # by time.monotonic()
        self.trouble: str | None = None  # why nothing can be marked
        with suppress(OSError):
            self.lock()

    def lock(self) -> None:
        """Have the file to oneself; the marks of an earlier run stay readable until `begin`. Raises `JournalInUse`, and
        `OSError` where the disk refuses."""
        if self._file is not None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._note(error)
            raise
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise JournalInUse(f"another process holds {self._path}") from error
        self._file = file

    def begin(self, run: str) -> None:
        """Drop the earlier marks and keep those of this run, called `run`. Raises `OSError`."""
        self.lock()
        assert self._file is not None  # noqa: S101
        self._stamp = _stamp(run)
        content = self._stamp + bytes(self._slots * _MARK.size)
        self._write(content, 0)
        os.ftruncate(self._file, len(content))
        self.trouble = None

    def mark(self, slot: int, message: int) -> None:
        """The message (its outbox id) in this slot is about to leave. Raises `OSError`: then it must not."""
        assert self._stamp, "begin() comes first"  # noqa: S101
        self._write(_MARK.pack(message), _HEADER + slot * _MARK.size)

    def clear(self, slot: int) -> None:
        """The outcome of the slot's message is in the database. A mark that stays does no harm: it is of a message that
        is finished."""
        with suppress(OSError):
            self.mark(slot, 0)

    def usable(self) -> bool:
        """Whether messages can be marked; where it failed, it is tried again every second."""
        if self.trouble is not None and self._stamp and time.monotonic() >= self._retry_due:
            with suppress(OSError):
                self._write(self._stamp, 0)
                self.trouble = None
        return self.trouble is None

    def _write(self, content: bytes, at: int) -> None:
        assert self._file is not None  # noqa: S101
        try:
            if os.pwrite(self._file, content, at) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except OSError as error:
            self._note(error)
            raise

    def _note(self, error: OSError) -> None:
        if self.trouble is None:
            log.error("the journal cannot be written: nothing is sent until it can", reason=str(error))
        self.trouble = disk.explain(error, self._path)
        self._retry_due = time.monotonic() + RETRY_INTERVAL_SECONDS

    def close(self) -> None:
        """Let go of the file; its marks stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


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
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    except OSError:  # nobody can tell
        yield False
        return
    try:
        yield _locked(file)
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _stamp(run: str) -> bytes:
    machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{run} {machine}".encode().ljust(_HEADER, b"\0")[:_HEADER]
