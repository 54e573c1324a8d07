"""/proc/<pid>/stat: state, parent, start and resident memory of a process. Imports little; each session uses it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """A process as proc_pid_stat(5) describes it."""

    state: str
    parent: int
    #: Seconds between the boot of the machine and the start of the process.
    started_at: float
    resident_bytes: int


def read(pid: int) -> ProcessStat:
    """The process's file. Raises OSError if the process is gone."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return ProcessStat(
        state=after_name[0],
        parent=int(after_name[1]),
        started_at=int(after_name[19]) / _TICKS_PER_SECOND,
        resident_bytes=int(after_name[21]) * _PAGE_BYTES,
    )


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie, whose parent has not waited for it yet, does not."""
    try:
        return read(pid).state != "Z"
    except OSError:
        return False


def ancestors(pid: int) -> Iterator[int]:
    """The process, its parent, and so on, up to but not including init."""
    while pid > 1:
        yield pid
        try:
            pid = read(pid).parent
        except OSError:
            return
