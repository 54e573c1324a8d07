"""Logging to a stream that may be on a full disk, which may lose lines but must not end the process."""

import atexit
import contextlib
import logging
import os
from typing import TextIO

import structlog


def configure_logging(stream: TextIO) -> None:
    """Logs events with fields in logfmt, as the services do, to a stream that may be on a full disk."""
    logging.basicConfig(handlers=[LastingHandler(stream)], level=logging.INFO, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


class LastingHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream. Lines that cannot be written are counted; the count is logged when writing works again."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost = 0
        atexit.register(self._end)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, or loses it. Never raises."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        lost = f"{self._lost} lines of this log were lost, because they could not be written\n" if self._lost else ""
        try:
            self.stream.write(f"{lost}{text}{self.terminator}")
            self.stream.flush()
        except (OSError, ValueError):
            self._lost += 1
        else:
            self._lost = 0

    def flush(self) -> None:
        """Flushes the stream, ignoring errors."""
        with contextlib.suppress(OSError, ValueError):
            super().flush()

    def _end(self) -> None:
        """Discards the rest of the buffer. Otherwise Python fails to flush it and exits with 120."""
        try:
            self.stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
