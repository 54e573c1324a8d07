"""Reduces the memory footprint of session processes."""

import ctypes
import gc
import sys


def begin() -> None:
    """Before anything else is imported."""
    # structlog loads rich to print tracebacks in colour, if it is installed: 7 MB. Our logs are plain.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


def trim() -> None:
    """Return memory that only the start needed: megabytes of source code."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
