"""Keeps what they do not need out of the memory of processes of which there are many."""

import ctypes
import gc
import sys


def begin() -> None:
    """Before anything else is imported."""
    # structlog loads rich to print tracebacks in colour, where it is installed: 7 MB. Our logs are plain.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


def trim() -> None:
    """Give back what the start has left: megabytes of code that was read and forgotten."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
