"""Writing logs to a stream that may take nothing: a full disk must cost lines, not the process or its exit status."""

import atexit
import contextlib
import logging
import os
from typing import TextIO


class LastingHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream; what it does not take is counted, and told of once it takes something again."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost = 0
        atexit.register(self._end)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or lose it. Never raises."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        lost = f"{self._lost} lines of this log were lost: they could not be written\n" if self._lost else ""
        try:
            self.stream.write(f"{lost}{text}{self.terminator}")
            self.stream.flush()
        except (OSError, ValueError):
            self._lost += 1
        else:
            self._lost = 0

    def flush(self) -> None:
        """Write what is in the stream's buffer, or not."""
        with contextlib.suppress(OSError, ValueError):
            super().flush()

    def _end(self) -> None:
        """What is left in the buffer is dropped: Python would fail to write it once more, and exit with 120."""
        try:
            self.stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
