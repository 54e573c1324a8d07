"""Whole process trees and their memory, read in one pass over /proc."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bisnesctl.host import process_memory, process_stat
from bisnesctl.host.process_stat import ProcessStat


@dataclass(frozen=True)
class ProcessTree:
    """A process and all its descendants."""

    #: By pid, parents before children; empty if the process is gone.
    processes: dict[int, ProcessStat]

    @property
    def resident(self) -> int:
        """Bytes; shared pages count for each process, so this is never below PSS."""
        return sum(each.resident_bytes for each in self.processes.values())


def all_processes() -> dict[int, ProcessStat]:
    """All processes of the machine by pid."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a thousand paths at a time
        if name.isdigit():
            with contextlib.suppress(OSError):  # it is gone
                found[int(name)] = process_stat.read(int(name))
    return found


def measure(roots: Iterable[int]) -> dict[int, ProcessTree]:
    """The trees of these processes, by the pid of the root."""
    return trees_in(all_processes(), roots)


def trees_in(processes: Mapping[int, ProcessStat], roots: Iterable[int]) -> dict[int, ProcessTree]:
    """The same among processes that were read before."""
    children = _children(processes)
    return {
        root: ProcessTree({pid: processes[pid] for pid in _tree(root, children) if pid in processes}) for root in roots
    }


def over(limits: Mapping[int, int], trees: Mapping[int, ProcessTree]) -> dict[int, int]:
    """The trees that exceed their limit, with their size: root's pid → bytes (PSS).

    `limits`: root's pid → bytes. Resident memory is cheap to read, so PSS is read only for trees whose resident memory
    exceeds the limit.
    """
    found = {}
    for root, limit in limits.items():
        if trees[root].resident > limit and (used := process_memory.total(trees[root].processes)) > limit:
            found[root] = used
    return found


#: A tree whose resident memory reaches this share of its limit is measured exactly.
EXACT_FROM = 0.8


def sizes(limits: Mapping[int, int | None]) -> dict[int, int]:
    """The memory of each tree: root's pid → bytes; trees that are gone are left out. `limits`: as above; None: none.

    It is resident memory, which counts shared pages several times, or PSS for a tree near its limit.
    """
    found = {}
    for root, measured in measure(limits).items():
        used, limit = measured.resident, limits[root]
        if limit is not None and used > limit * EXACT_FROM:
            used = process_memory.total(measured.processes) or used
        if used:
            found[root] = used
    return found


def tree(root: int) -> list[int]:
    """A process and all its descendants, parents before children."""
    return _tree(root, _children(all_processes()))


def _children(processes: Mapping[int, ProcessStat]) -> dict[int, list[int]]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, each in processes.items():
        children[each.parent].append(pid)
    return children


def _tree(root: int, children: Mapping[int, list[int]]) -> list[int]:
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found
