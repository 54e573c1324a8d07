"""Follows a log file across rotations."""

import os
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from bisnesctl.logs.files import LogFile, LogStream, find


@dataclass
class Follower:
    """Reads new lines of a file; a file that is replaced or truncated is read from its start."""

    path: Path
    #: The part that was read before; None: all that is there now.
    known: LogStream | None = None
    _stream: BufferedReader | None = None
    _rest: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        known = self.known or find(LogFile("", self.path, is_error=False))
        if known.segments and (stream := known.segments[-1].open()) is not None:
            self._stream = stream
            stream.seek(known.segments[-1].size)

    def lines(self) -> list[str]:
        """The complete lines that were added since the last call."""
        data = self._rest + self._read()
        if self._replaced():
            data += self._read() + self._read_others()  # all that was written to the former file, and since then
        *whole, self._rest = data.split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def close(self) -> None:
        """Closes the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read(self) -> bytes:
        return self._stream.read() if self._stream is not None else b""

    def _read_others(self) -> bytes:
        """The files that replaced the one that is open; the newest of them is open afterwards."""
        held, segments = self._identity(), find(LogFile("", self.path, is_error=False)).segments
        places = [n for n, each in enumerate(segments) if each.identity == held]
        first = 0 if held is None else places[0] + 1 if places else len(segments) - 1
        self.close()
        data = b""
        for segment in segments[min(first, len(segments) - 1) :] if segments else ():
            self.close()
            self._stream = segment.open()
            data += self._read()
        return data

    def _identity(self) -> tuple[int, int] | None:
        if self._stream is None:
            return None
        held = os.fstat(self._stream.fileno())
        return held.st_dev, held.st_ino

    def _replaced(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        if self._stream is None:
            return True
        return self._identity() != (there.st_dev, there.st_ino) or there.st_size < self._stream.tell()
