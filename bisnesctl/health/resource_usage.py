"""Resource usage of process trees: processor and memory."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from bisnesctl.host import process_memory, tree_memory
from bisnesctl.host.process_stat import ProcessStat
from bisnesctl.host.process_times import boottime

#: Seconds between the two samples that give the processor usage, at least.
SAMPLE_SECONDS = 0.1
#: Seconds for which `Meter` keeps the memory of a process.
MEMORY_SECONDS = 15.0
#: Seconds between two looks after which the first one says nothing about now.
LONGEST_SPAN_SECONDS = 60.0


@dataclass(frozen=True)
class Usage:
    """Usage of a process and all its descendants."""

    #: Percent of one processor.
    cpu: float
    #: Bytes; shared pages count by their share (PSS) if the kernel permits reading it, otherwise in full (RSS).
    memory: int
    #: Seconds.
    uptime: float


def _memory(pid: int, stat: ProcessStat) -> int:
    used = process_memory.proportional(pid)
    return stat.resident_bytes if used is None else used


@dataclass(frozen=True)
class Sample:
    """The processor times of all processes at one moment: the sooner it is made, the less `usage` has to wait."""

    processes: Mapping[int, ProcessStat] = field(default_factory=tree_memory.all_processes)
    #: On the monotonic clock.
    at: float = field(default_factory=time.monotonic)
    #: The bytes of a process.
    memory: Callable[[int, ProcessStat], int] = _memory

    def usage(self, roots: Iterable[int]) -> dict[int, Usage]:
        """The usage of each of these process trees since the sample, at least `SAMPLE_SECONDS` later.

        Pids that are gone are left out.
        """
        time.sleep(max(self.at + SAMPLE_SECONDS - time.monotonic(), 0.0))
        now, elapsed = tree_memory.all_processes(), time.monotonic() - self.at
        found = {}
        for root, tree in tree_memory.trees_in(now, roots).items():
            if root in tree.processes:
                busy = sum(self._processor_seconds(pid, each) for pid, each in tree.processes.items())
                memory = sum(self.memory(pid, each) for pid, each in tree.processes.items())
                found[root] = Usage(100 * busy / elapsed, memory, boottime() - now[root].started_at)
        return found

    def _processor_seconds(self, pid: int, now: ProcessStat) -> float:
        """Those that a process used since the sample, or since its start."""
        before = self.processes.get(pid)
        if before is None or before.started_at != now.started_at:
            return now.processor_seconds
        return now.processor_seconds - before.processor_seconds


class Meter:
    """Makes the samples of somebody who looks again and again. For one thread at a time."""

    def __init__(self) -> None:
        self._last: Sample | None = None
        self._memory: dict[tuple[int, float], tuple[float, int]] = {}  # (pid, start) → when it was read, bytes

    def sample(self) -> Sample:
        """The one of the look before, for which `usage` need not wait, unless that is too long ago.

        It reads the memory of a process now and then only: for each reading, the kernel visits all of its pages.
        """
        now, before = time.monotonic(), self._last
        self._memory = {key: read for key, read in self._memory.items() if now - read[0] < MEMORY_SECONDS}
        self._last = Sample(memory=self._memory_of)
        return self._last if before is None or now - before.at > LONGEST_SPAN_SECONDS else before

    def _memory_of(self, pid: int, stat: ProcessStat) -> int:
        key = pid, stat.started_at
        read = self._memory.get(key)
        if read is None:
            read = self._memory[key] = time.monotonic(), _memory(pid, stat)
        return read[1]
