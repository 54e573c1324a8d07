"""/proc/<pid>/stat: state, parent, start, processor time and resident memory of a process. Imports little; each session
uses it.
"""

import contextlib
import os
import select
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """A process as proc_pid_stat(5) describes it."""

    state: str
    parent: int
    #: Seconds between the boot of the machine and the start of the process.
    started_at: float
    #: Seconds of processors that it has used itself, without its children.
    processor_seconds: float
    resident_bytes: int


def read(pid: int) -> ProcessStat:
    """The process's file. Raises OSError if the process is gone."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - some callers read those of all processes
        after_name = file.read().rpartition(b")")[2].split()
    return ProcessStat(
        state=after_name[0].decode(),
        parent=int(after_name[1]),
        started_at=int(after_name[19]) / _TICKS_PER_SECOND,
        processor_seconds=(int(after_name[11]) + int(after_name[12])) / _TICKS_PER_SECOND,
        resident_bytes=int(after_name[21]) * _PAGE_BYTES,
    )


def descent(pid: int) -> list[ProcessStat]:
    """A process and everything below it, without those that have just ended. The other processes are not read."""
    pids, found = [pid], []
    for each in pids:
        with contextlib.suppress(OSError):
            found.append(read(each))
            pids += _children(each)
    return found


def _children(pid: int) -> list[int]:
    """The children of a process; each of its threads may have some. Raises OSError if the process is gone."""
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
            found += map(int, file.read().split())
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie, whose parent has not waited for it yet, does not."""
    try:
        return read(pid).state != "Z"
    except OSError:
        return False


def runs(pid: int, started_at: float) -> bool:
    """Whether the very process runs that was started this many seconds after the boot, not a later one with its pid."""
    try:
        found = read(pid)
    except OSError:
        return False
    return found.state != "Z" and abs(found.started_at - started_at) < 1


def ancestors(pid: int) -> Iterator[int]:
    """The process, its parent, and so on, up to but not including init."""
    while pid > 1:
        yield pid
        try:
            pid = read(pid).parent
        except OSError:
            return


def wait_for_an_end(pids: Iterable[int], seconds: float) -> None:
    """Waits this long, or until one of these processes has ended. They need not be children; one that is gone does not
    count.
    """
    with contextlib.ExitStack() as handles:
        poll = select.poll()
        for pid in pids:
            with contextlib.suppress(OSError):  # it is gone, or an old kernel has no such handles
                handle = os.pidfd_open(pid)
                handles.callback(os.close, handle)
                poll.register(handle, select.POLLIN)
        poll.poll(seconds * 1000)
