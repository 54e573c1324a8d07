"""Memory of processes as PSS: shared pages count by the process's share. Imports little; many modules use it."""

from collections.abc import Iterable
from pathlib import Path


def total(pids: Iterable[int]) -> int:
    """Bytes (PSS) of these processes together; a process that is gone counts 0."""
    return sum(proportional(pid) or 0 for pid in pids)


def proportional(pid: int) -> int | None:
    """Bytes (PSS); None if the process is gone or belongs to another user."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
