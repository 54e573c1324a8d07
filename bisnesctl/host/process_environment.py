"""/proc/<pid>/environ: the environment that a process was started with."""

import contextlib
import os
from pathlib import Path


def read(pid: int) -> dict[str, str]:
    """The variables by name; empty if the process is gone or belongs to another user."""
    with contextlib.suppress(OSError):
        found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return {name: text for name, _, text in (os.fsdecode(each).partition("=") for each in found) if name}
    return {}
