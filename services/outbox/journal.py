"""The journal of a worker's sends: which of its messages may have left. A small file that outlives a SIGKILL.

A worker marks a message right before its bytes go to the socket and clears the mark once the outcome is in the
database. A message that a dead worker had claimed but not marked never left and may be sent by another worker; a marked
message may have left and becomes `unknown`. The marks live in the page cache, so they survive the process but not the
machine: a journal of an earlier boot says nothing, and every claimed message counts as marked.
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

#: Bytes of the header: the worker's name for this run, and the boot of the machine.
HEADER_BYTES = 64
#: The format of a mark: the id of the message, 0 for none.
MARK = struct.Struct("=q")
#: Seconds between two tries to write a journal that could not be written.
RETRY_SECONDS = 1.0

log = structlog.get_logger()


def path_of(folder: Path, instance: str) -> Path:
    """The journal of the worker with this name."""
    return folder / f"{instance}.journal"


class JournalInUse(Exception):
    """Another process runs under the same instance name."""


class Journal:
    """The marks of the messages that may have left. The file stays locked as long as the process lives.

    The whole file is written at the beginning, so that marks need no further space on a disk that is full by then. If a
    mark cannot be written, an `OSError` is raised and the message must not leave: nobody would know that it may have.
    """

    def __init__(self, path: Path, slots: int) -> None:
        """Lock the file; if the disk refuses, `begin` tries again. Raises `JournalInUse`."""
        self._path, self._slots = path, slots
        self._stamp = b""  # of this run, once it has begun
        self._file: int | None = None
        self._retry_due = 0.0  # by time.monotonic()
        self.trouble: str | None = None  # why nothing can be marked
        with suppress(OSError):
            self.lock()

    def lock(self) -> None:
        """Lock the file; the marks of an earlier run stay readable until `begin`.

        Raises `JournalInUse`, and `OSError` if the disk refuses.
        """
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
        """Replace the earlier marks by those of this run, called `run`. Raises `OSError`."""
        self.lock()
        assert self._file is not None  # noqa: S101
        self._stamp = stamp(run)
        content = self._stamp + bytes(self._slots * MARK.size)
        self._write(content, 0)
        os.ftruncate(self._file, len(content))
        self.trouble = None

    def mark(self, slot: int, message: int) -> None:
        """Mark that the message (its outbox id) in this slot is about to leave. Raises `OSError`: then it must not."""
        assert self._stamp, "begin() comes first"  # noqa: S101
        self._write(MARK.pack(message), HEADER_BYTES + slot * MARK.size)

    def clear(self, slot: int) -> None:
        """Clear the mark of a message whose outcome is stored. A mark that stays does no harm: its message is
        finished."""
        with suppress(OSError):
            self.mark(slot, 0)

    def usable(self) -> bool:
        """Whether messages can be marked: not before `begin`; after a failure, that is tried every second."""
        if self.trouble is not None and self._stamp and time.monotonic() >= self._retry_due:
            with suppress(OSError):
                self._write(self._stamp, 0)
                self.trouble = None
        return bool(self._stamp) and self.trouble is None

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
            log.error("journal.not_writable", effect="nothing is sent until it can be written", reason=str(error))
        self.trouble = disk.explain(error, self._path)
        self._retry_due = time.monotonic() + RETRY_SECONDS

    def close(self) -> None:
        """Close the file; its marks stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


# The journal as others read it


def marked(path: Path, run: str) -> set[int] | None:
    """The messages that the run may have sent; None if the journal does not say, so that any of them may have been."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if content[:HEADER_BYTES] != stamp(run):
        return None
    return {message for (message,) in MARK.iter_unpack(content[HEADER_BYTES:]) if message}


def is_of(path: Path, run: str) -> bool:
    """Whether the journal has the marks of that run, on this boot of the machine."""
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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def stamp(run: str) -> bytes:
    """The header of the journal of a run on this boot of the machine."""
    machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{run} {machine}".encode().ljust(HEADER_BYTES, b"\0")[:HEADER_BYTES]
