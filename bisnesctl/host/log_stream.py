"""Logging to a stream that may be on a full disk, which may lose lines but must not end the process."""

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

#: Seconds after a warning or an error within which lines that equal it are counted instead of written.
REPEAT_SECONDS = 60.0
#: Warnings and errors that are remembered for that, at most.
MAX_REMEMBERED = 500


def configure_logging(stream: TextIO) -> None:
    """Logs events with fields in logfmt, as the services do, to a stream that may be on a full disk."""
    logging.basicConfig(handlers=[LastingHandler(stream)], level=logging.INFO, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            Repeats(),
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


class Repeats:
    """Drops a warning or an error that equals a recent one: an outage is a line a minute, not one for each attempt.

    The next line that is written has their number in `repeated`. Lines with a traceback are written always. Must come
    before the processor that adds the time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: dict[frozenset[tuple[str, str]], tuple[float, int]] = {}  # line → until when, left out since

    def __call__(self, _: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The fields of a line that is written. Raises `structlog.DropEvent` for one that is left out."""
        if method not in ("warning", "error") or "exc_info" in fields:
            return fields
        line = frozenset((name, str(value)) for name, value in fields.items())
        now = time.monotonic()
        with self._lock:
            until, count = self._written.pop(line, (now, 0))
            if now < until:
                self._written[line] = (until, count + 1)
                raise structlog.DropEvent
            self._written[line] = (now + REPEAT_SECONDS, 0)
            if len(self._written) > MAX_REMEMBERED:
                del self._written[next(iter(self._written))]
        if count:
            fields["repeated"] = count
        return fields


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
