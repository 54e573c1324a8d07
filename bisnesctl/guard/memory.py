"""The memory of whole process trees: one look at /proc for all of them."""

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from bisnesctl.host import process_memory

_PAGE = os.sysconf("SC_PAGE_SIZE")


def over(limits: Mapping[int, int]) -> dict[int, int]:
    """The trees that use more than their limit: root's pid → bytes, shared pages by their share (PSS).

    `limits`: root's pid → bytes. The resident size, which is cheap and never less, tells which trees are worth the
    dearer look.
    """
    children, resident = _processes()
    found = {}
    for root, limit in limits.items():
        tree = _tree(root, children)
        if sum(resident.get(pid, 0) for pid in tree) > limit and (used := process_memory.total(tree)) > limit:
            found[root] = used
    return found


def _processes() -> tuple[dict[int, list[int]], dict[int, int]]:
    """The children of each process, and the resident bytes of each (proc(5), fields 4 and 24 of stat)."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    resident = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a thousand paths a look
        if not name.isdigit():
            continue
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children[int(fields[1])].append(int(name))
        resident[int(name)] = int(fields[21]) * _PAGE
    return children, resident


def tree(root: int) -> list[int]:
    """A process and all that lives below it, parents before their children."""
    return _tree(root, _processes()[0])


def _tree(root: int, children: Mapping[int, list[int]]) -> list[int]:
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found
