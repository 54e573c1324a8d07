"""Resource usage of process trees: processor and memory."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bisnesctl.host import process_memory, tree_memory
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

        Pids that are gone are left out.
        """
        time.sleep(max(self.at + SAMPLE_SECONDS - time.monotonic(), 0.0))
        trees = tree_memory.measure(roots)
        elapsed = time.monotonic() - self.at
        return {
            root: Usage(
                cpu=100 * sum(self._busy_seconds(pid, each) for pid, each in tree.processes.items()) / elapsed,
                memory=sum(_memory(pid, each) for pid, each in tree.processes.items()),
                uptime=boottime() - tree.processes[root].started_at,
            )
            for root, tree in trees.items()
            if root in tree.processes
        }

    def _busy_seconds(self, pid: int, now: ProcessStat) -> float:
        before = self.processes.get(pid)
        known = before is not None and before.started_at == now.started_at  # otherwise it is new
        return now.processor_seconds - (before.processor_seconds if before is not None and known else 0.0)


def _memory(pid: int, stat: ProcessStat) -> int:
    used = process_memory.proportional(pid)
    return stat.resident_bytes if used is None else used
