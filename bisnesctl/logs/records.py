"""Records: lines with a time, each with the lines that follow without one, such as a traceback."""

import logging
from collections.abc import Iterable, Iterator
from datetime import tzinfo
from typing import NamedTuple

from bisnesctl.logs.files import BLOCK_BYTES, LogFile, LogStream, Segment, Span
from bisnesctl.logs.formats import NAMES, Stamp, StampReader

#: Lines of a record, at most; further ones become a record of their own.
MAX_RECORD_LINES = 500
#: Seconds between a line and the lines without a time after it, beyond which these are an event of their own.
MAX_PAUSE_SECONDS = 5.0
#: Seconds by which the clock of a file may be behind that of the lines in it.
CLOCK_SLACK_SECONDS = 60.0

_TRACEBACK = "Traceback (most recent call last):"


class Record(NamedTuple):
    """One entry of a log."""

    file: LogFile
    time: float  # seconds since the epoch
    level: int  # as in the module `logging`
    text: str  # one line or several
    continues: bool = False  # whether it continues the record before of its stream

    @property
    def level_name(self) -> str:
        """The level in one word."""
        return NAMES[self.level]


class RecordReader:
    """Makes records of the lines of one stream."""

    def __init__(self, file: LogFile, zone: tzinfo | None, modified_at: float = float("inf")) -> None:
        """`zone`: of times without one; None: that of this machine. `modified_at`: of the stream."""
        self._file, self._modified_at = file, modified_at
        self._stamps = StampReader(zone, modified_at + CLOCK_SLACK_SECONDS)
        self._stamp: Stamp | None = None  # of the record that was begun last

    def read(self, lines: Iterable[str], now: float | None = None) -> Iterator[Record]:
        """The records of further lines. `now`: the time of lines that follow the last one late, if they do."""
        now = self._modified_at if now is None else now
        begun: list[str] = []  # the lines of the current record
        continues = self._stamp is not None
        for line in lines:
            stamp = self._stamps.read(line)
            if stamp is None or (stamp.is_part and self._stamp is not None):
                if begun or line.strip():
                    begun.append(line)
                if len(begun) >= MAX_RECORD_LINES and self._stamp is not None:
                    yield self._record(begun, self._stamp.time, continues)
                    begun, continues = [], True
                continue
            if begun:
                yield self._record(begun, self._stamp.time if self._stamp else stamp.time, continues)
            begun, continues, self._stamp = [line], False, stamp
        if begun:
            yield from self._last(begun, continues, now)

    def _last(self, lines: list[str], continues: bool, now: float) -> Iterator[Record]:
        """The last record; the lines without a time at its end are as old as the file's last change."""
        if self._stamp is None:
            yield self._record(lines, min(now, self._modified_at), continues)
            return
        head = 0 if continues else 1
        is_late = now - self._stamp.time > MAX_PAUSE_SECONDS and len(lines) > head
        if is_late and not lines[head].startswith((" ", "\t")) and self._stamps.read(lines[head]) is None:
            if head:
                yield self._record(lines[:1], self._stamp.time, continues)
            self._stamp = Stamp(now, _level(lines[head:], self._file.is_error))
            yield self._record(lines[head:], now, continues=False)
        else:
            yield self._record(lines, self._stamp.time, continues)

    def _record(self, lines: list[str], time: float, continues: bool) -> Record:
        level = self._stamp.level if self._stamp else None
        return Record(
            self._file, time, _level(lines, self._file.is_error) if level is None else level, "\n".join(lines),
            continues,
        )  # fmt: skip


def spans_since(stream: LogStream, since: float, zone: tzinfo | None) -> list[Span]:
    """The spans of a stream that may have records from `since` on. Lines are about in the order of their times."""
    spans: list[Span] = []
    for segment in reversed(stream.segments):
        if segment.modified_at + CLOCK_SLACK_SECONDS < since:
            break
        start = _start_since(segment, since, zone)
        spans.insert(0, Span(segment, start))
        if start:
            break
    return spans


def _start_since(segment: Segment, since: float, zone: tzinfo | None) -> int:
    """An offset before the records from `since` on."""
    stream = segment.open()
    if stream is None:
        return 0
    stamps = StampReader(zone, segment.modified_at + CLOCK_SLACK_SECONDS)
    with stream:
        start = segment.size
        while (start := max(start - BLOCK_BYTES, 0)) > 0:
            stream.seek(start)
            skipped = stream.readline()
            for line in stream.read(BLOCK_BYTES).decode(errors="replace").split("\n"):
                if (stamp := stamps.read(line)) is not None:
                    if stamp.time < since:
                        return start + len(skipped)
                    break
    return 0


def _level(lines: list[str], is_error: bool) -> int:
    if any(line.startswith(_TRACEBACK) for line in lines):
        return logging.ERROR
    return logging.WARNING if is_error else logging.INFO
