"""Resource usage of process trees: processor and memory."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from bisnesctl.host.process_memory import proportional
from bisnesctl.host.process_times import uptime

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
    trees = {pid: tree for pid in pids if (tree := _tree(pid))}
    before = {pid: _busy(tree) for pid, tree in trees.items()}
    began = time.monotonic()
    if trees:
        time.sleep(SAMPLE_SECONDS)
    elapsed = max(time.monotonic() - began, 0.001)
    found = {}
    for pid, tree in trees.items():
        with contextlib.suppress(OSError):
            cpu = 100 * max(_busy(tree) - before[pid], 0) / elapsed
            found[pid] = Usage(cpu, sum(_memory(each) for each in tree), uptime(pid))
    return found


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _busy(tree: list[psutil.Process]) -> float:
    total = 0.0
    for process in tree:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _memory(process: psutil.Process) -> int:
    proportional_bytes = proportional(process.pid)
    if proportional_bytes is not None:
        return proportional_bytes
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
