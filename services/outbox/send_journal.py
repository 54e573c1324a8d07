"""The journal of a worker's sends: which of its messages may have left. A small file that outlives a SIGKILL.

A worker marks a message right before its bytes go to the socket and clears the mark once the outcome is in the
database (`departures.Journal`). A message that a dead worker had claimed but not marked never left and may be sent by
another worker; a marked message may have left and becomes `unknown`. The marks live in the page cache, so they survive
the process but not the machine: a journal of an earlier boot says nothing, and every claimed message counts as marked.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Bytes of the header: the worker's name for this run, and the boot of the machine.
HEADER_BYTES = 64
#: The format of a mark: the id of the message, 0 for none.
MARK = struct.Struct("=q")


def path_of(folder: Path, instance: str) -> Path:
    """The journal of the worker with this name."""
    return folder / f"{instance}.journal"


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
