"""The memory of a process in which what it shares counts by its share. Imports little, since many need it."""

from collections.abc import Iterable
from pathlib import Path


def total(pids: Iterable[int]) -> int:
    """Bytes (PSS) of all of these; those that are gone use nothing."""
    return sum(proportional(pid) or 0 for pid in pids)


def proportional(pid: int) -> int | None:
    """Bytes (PSS); None where the process is gone, or another user's."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
