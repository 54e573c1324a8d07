"""Resource usage of process trees: processor and memory."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bisnesctl.host import process_memory, process_stat, tree_memory
from bisnesctl.host.process_stat import ProcessStat
from bisnesctl.host.process_times import boottime

#: Seconds between the two samples that give the processor usage.
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


def measure(pids: Iterable[int]) -> dict[int, Usage]:
    """The usage of each of these process trees; takes `SAMPLE_SECONDS`. Pids that are gone are left out."""
    before = {root: tree.processes for root, tree in tree_memory.measure(pids).items()}
    began = time.monotonic()
    if before:
        time.sleep(SAMPLE_SECONDS)
    elapsed = max(time.monotonic() - began, 0.001)
    now = {root: dict(_still_there(tree)) for root, tree in before.items()}
    return {
        root: Usage(
            cpu=100 * max(_busy_seconds(before[root], tree), 0) / elapsed,
            memory=sum(_memory(pid, each) for pid, each in tree.items()),
            uptime=boottime() - tree[root].started_at,
        )
        for root, tree in now.items()
        if root in tree
    }


def _still_there(tree: Iterable[int]) -> Iterator[tuple[int, ProcessStat]]:
    for pid in tree:
        with contextlib.suppress(OSError):
            yield pid, process_stat.read(pid)


def _busy_seconds(before: Mapping[int, ProcessStat], now: Mapping[int, ProcessStat]) -> float:
    return sum(each.processor_seconds - before[pid].processor_seconds for pid, each in now.items())


def _memory(pid: int, stat: ProcessStat) -> int:
    used = process_memory.proportional(pid)
    return stat.resident_bytes if used is None else used
