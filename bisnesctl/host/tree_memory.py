"""Memory of whole process trees, read in one pass over /proc."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bisnesctl.host import process_memory, process_stat


@dataclass(frozen=True)
class ProcessTree:
    """A process and all its descendants."""

    pids: list[int]
    #: Bytes; shared pages count for each process, so this is never below PSS.
    resident: int


def measure(roots: Iterable[int]) -> dict[int, ProcessTree]:
    """The trees of these processes, by the pid of the root."""
    children, resident = _processes()
    trees = {root: _tree(root, children) for root in roots}
    return {root: ProcessTree(pids, sum(resident.get(pid, 0) for pid in pids)) for root, pids in trees.items()}


def over(limits: Mapping[int, int], trees: Mapping[int, ProcessTree]) -> dict[int, int]:
    """The trees that exceed their limit, with their size: root's pid → bytes (PSS).

    `limits`: root's pid → bytes. Resident memory is cheap to read, so PSS is read only for trees whose resident memory
    exceeds the limit.
    """
    found = {}
    for root, limit in limits.items():
        if trees[root].resident > limit and (used := process_memory.total(trees[root].pids)) > limit:
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
            used = process_memory.total(measured.pids) or used
        if used:
            found[root] = used
    return found


def tree(root: int) -> list[int]:
    """A process and all its descendants, parents before children."""
    return _tree(root, _processes()[0])


def _processes() -> tuple[dict[int, list[int]], dict[int, int]]:
    """The children of each process, and the resident bytes of each."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    resident = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a thousand paths at a time
        if not name.isdigit():
            continue
        try:
            stat = process_stat.read(int(name))
        except OSError:
            continue
        children[stat.parent].append(int(name))
        resident[int(name)] = stat.resident_bytes
    return children, resident


def _tree(root: int, children: Mapping[int, list[int]]) -> list[int]:
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found
