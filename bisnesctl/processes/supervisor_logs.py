"""Logs inside supervisord that a full or read-only disk may cost lines, but no program.

As it is, supervisord starts no program whose log it cannot open. Where a log cannot be rotated, it stops reading what
the program writes, which then hangs once the pipe is full; where its own log cannot be rotated, it may end.
"""

import contextlib
import os
import time
from typing import Any

from supervisor import loggers

#: Seconds between two tries to open a log again.
REOPEN_INTERVAL_SECONDS = 1.0


class LastingLog(loggers.RotatingFileHandler):  # type: ignore[misc]
    """A log file; what cannot be written is lost, and it is opened again when that is possible."""

    _reopen_at: float | None = None  # none: it is open

    def __init__(self, filename: str, mode: str = "ab", maxBytes: int = 0, backupCount: int = 0) -> None:
        try:
            super().__init__(filename, mode, maxBytes, backupCount)
        except OSError:
            loggers.Handler.__init__(self)
            self.baseFilename, self.mode = filename, "ab"
            self.maxBytes, self.backupCount, self.counter, self.every = maxBytes, backupCount, 0, 10
            self._lose()

    def emit(self, record: Any) -> None:
        """Writes a record, or drops it. Never raises."""
        try:
            if self._reopen_at is not None and time.monotonic() >= self._reopen_at:
                self._lose()
                self.stream = open(self.baseFilename, "ab")  # noqa: SIM115, PTH123
                self._reopen_at = None
            super().emit(record)
        except (OSError, ValueError):  # ValueError: rotating closed the file, and could not open another
            self._lose()

    def handleError(self) -> None:
        """Says nothing of a line that was not written: there is nowhere to say it."""

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError, ValueError):
            super().close()

    def _lose(self) -> None:
        if (stream := getattr(self, "stream", None)) is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        self.stream = open(os.devnull, "ab")  # noqa: SIM115, PTH123
        self._reopen_at = time.monotonic() + REOPEN_INTERVAL_SECONDS


def install(logger: Any) -> None:
    """Have supervisord use it, for its own log (`logger`) and for those of the programs that it starts from now on."""
    loggers.RotatingFileHandler = LastingLog
    for handler in logger.handlers:
        if isinstance(handler, loggers.FileHandler):
            handler.__class__ = LastingLog
