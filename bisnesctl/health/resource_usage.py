"""Resource usage of process trees: processor and memory."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from bisnesctl.host import process_memory, process_stat, tree_memory
from bisnesctl.host.process_stat import ProcessStat
from bisnesctl.host.process_times import boottime

#: Seconds between the two samples that give the processor usage, at least.
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Usage:
    """Usage of a process and all its descendants."""

    #: Percent of one processor.
    cpu: float
    #: Bytes; shared pages count by their share (PSS) if the kernel permits reading it, otherwise in full (RSS).
    memory: int
    #: Seconds.
    uptime: float


@dataclass(frozen=True)
class Sample:
    """The processor times of all processes at one moment: the sooner it is made, the less `usage` has to wait."""

    processes: Mapping[int, ProcessStat] = field(default_factory=tree_memory.all_processes)
    #: On the monotonic clock.
    at: float = field(default_factory=time.monotonic)

    def usage(self, roots: Iterable[int]) -> dict[int, Usage]:
        """The usage of each of these process trees since the sample, at least `SAMPLE_SECONDS` later.

        Pids that are gone, or were not there yet, are left out.
        """
        time.sleep(max(self.at + SAMPLE_SECONDS - time.monotonic(), 0.0))
        elapsed = time.monotonic() - self.at
        found = {}
        for root, tree in tree_memory.trees_in(self.processes, roots).items():
            now = dict(_still_there(tree.processes))
            if root in now:
                busy = sum(each.processor_seconds - tree.processes[pid].processor_seconds for pid, each in now.items())
                memory = sum(_memory(pid, each) for pid, each in now.items())
                found[root] = Usage(100 * busy / elapsed, memory, boottime() - now[root].started_at)
        return found


def _still_there(processes: Mapping[int, ProcessStat]) -> Iterator[tuple[int, ProcessStat]]:
    """Those of these processes that live, as they are now."""
    for pid, before in processes.items():
        with contextlib.suppress(OSError):
            now = process_stat.read(pid)
            if now.started_at == before.started_at:
                yield pid, now


def _memory(pid: int, stat: ProcessStat) -> int:
    used = process_memory.proportional(pid)
    return stat.resident_bytes if used is None else used
