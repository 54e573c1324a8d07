"""Logs inside supervisord that lose lines on a full or read-only disk, but never affect a program.

Without this, supervisord does not start a program whose log it cannot open. If it cannot rotate a log, it stops reading
the output of the program, which then hangs when the pipe is full. If it cannot rotate its own log, it may end.
"""

import contextlib
import os
import time
from typing import Any

from supervisor import loggers

#: Seconds between attempts to open a log again.
REOPEN_INTERVAL_SECONDS = 1.0


class LastingLog(loggers.RotatingFileHandler):  # type: ignore[misc]
    """A log file. Lines that cannot be written are lost; the file is opened again as soon as possible."""

    _reopen_at: float | None = None  # None: it is open

    def __init__(self, filename: str, mode: str = "ab", maxBytes: int = 0, backupCount: int = 0) -> None:
        try:
            super().__init__(filename, mode, maxBytes, backupCount)
        except OSError:
            loggers.Handler.__init__(self)
            self.baseFilename, self.mode = filename, "ab"
            self.maxBytes, self.backupCount, self.counter, self.every = maxBytes, backupCount, 0, 10
            self._lose()

    def emit(self, record: Any) -> None:
        """Writes a record, or loses it. Never raises."""
        try:
            if self._reopen_at is not None and time.monotonic() >= self._reopen_at:
                self._lose()
                self.stream = open(self.baseFilename, "ab")  # noqa: SIM115, PTH123
                self._reopen_at = None
            super().emit(record)
        except (OSError, ValueError):  # ValueError: rotation closed the file and could not open the next one
            self._lose()

    def handleError(self) -> None:
        """Does nothing, because an error about a lost line could not be written either."""

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
    """Makes supervisord use `LastingLog` for its own log (`logger`) and for programs that it starts from now on."""
    loggers.RotatingFileHandler = LastingLog
    for handler in logger.handlers:
        if isinstance(handler, loggers.FileHandler):
            handler.__class__ = LastingLog
