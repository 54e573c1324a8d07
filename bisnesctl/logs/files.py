"""The log files of processes, with their rotated ones: `api-0.log` is the newest, `api-0.log.1` is older."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path

#: Bytes read at a time.
BLOCK_BYTES = 256 * 1024
#: Bytes of a line, at most; a longer one is split.
MAX_LINE_BYTES = 1024 * 1024
#: Rotations during a read after which a file is not found any more.
_MAX_ROTATIONS = 10

_ERROR_SUFFIX = ".err.log"
_SUFFIX = ".log"


@dataclass(frozen=True)
class LogFile:
    """The file of one output stream of an instance."""

    instance: str
    path: Path
    is_error: bool


@dataclass(frozen=True)
class Segment:
    """A file of a stream, as it was when it was found. It may be rotated meanwhile."""

    path: Path
    number: int  # of the rotation; 0: the newest
    identity: tuple[int, int]  # device and inode
    size: int
    modified_at: float  # seconds since the epoch

    def open(self) -> BufferedReader | None:
        """The file, under the name that it has by now; None if it was deleted."""
        for number in range(self.number, self.number + _MAX_ROTATIONS):
            try:
                stream = _numbered(self.path, number).open("rb")
            except FileNotFoundError:
                continue
            found = os.fstat(stream.fileno())
            if (found.st_dev, found.st_ino) == self.identity:
                return stream
            stream.close()
        return None


@dataclass(frozen=True)
class Span:
    """The bytes of a segment that are to be read."""

    segment: Segment
    start: int = 0


@dataclass(frozen=True)
class LogStream:
    """All that one output stream of an instance has written and that is kept, as it was at one moment."""

    file: LogFile
    segments: Sequence[Segment]  # oldest first

    @property
    def modified_at(self) -> float:
        """When it was last written to, in seconds since the epoch; 0 if there is no file."""
        return self.segments[-1].modified_at if self.segments else 0.0

    @cached_property
    def is_empty(self) -> bool:
        """Whether nothing is kept of it."""
        return not any(each.size for each in self.segments)


def files_of(log_dir: Path, instance: str, errors_only: bool = False) -> list[LogFile]:
    """The files of its standard output and standard error, whether they exist or not."""
    error = LogFile(instance, log_dir / f"{instance}{_ERROR_SUFFIX}", is_error=True)
    return [error] if errors_only else [LogFile(instance, log_dir / f"{instance}{_SUFFIX}", is_error=False), error]


def names_in(log_dir: Path) -> list[str]:
    """The instances that have log files here, sorted; some may not exist any more."""
    try:
        found = [each.name for each in log_dir.iterdir()]
    except OSError:
        return []
    current = {re.sub(r"\.\d+$", "", name) for name in found}
    return sorted({
        name.removesuffix(_ERROR_SUFFIX).removesuffix(_SUFFIX) for name in current if name.endswith(_SUFFIX)
    })  # fmt: skip


def find(file: LogFile) -> LogStream:
    """The stream of a file, with its rotated files.

    The newest is looked at first: a rotation meanwhile shows a file twice and never misses one.
    """
    segments: dict[tuple[int, int], Segment] = {}
    number = misses = 0
    while misses < 2:  # between the steps of a rotation, one name is free
        path = _numbered(file.path, number)
        try:
            found = path.stat()
        except OSError:
            misses += 1
        else:
            misses = 0
            identity = found.st_dev, found.st_ino
            segments.setdefault(identity, Segment(file.path, number, identity, found.st_size, found.st_mtime))
        number += 1
    return LogStream(file, tuple(reversed(segments.values())))


def read_lines(spans: Sequence[Span]) -> Iterator[str]:
    """The lines of these spans, one after the other."""
    rest = b""
    for span in spans:
        stream = span.segment.open()
        if stream is None:
            continue
        with stream:
            stream.seek(span.start)
            remaining = span.segment.size - span.start
            while remaining > 0 and (data := stream.read(min(BLOCK_BYTES, remaining))):
                remaining -= len(data)
                whole, ends, rest = (rest + data).rpartition(b"\n")
                if ends:
                    yield from whole.decode(errors="replace").split("\n")
                elif len(rest) > MAX_LINE_BYTES:
                    yield rest.decode(errors="replace")
                    rest = b""
    if rest:
        yield rest.decode(errors="replace")


def last_lines(stream: LogStream, count: int) -> list[Span]:
    """The spans with the last `count` lines of a stream."""
    spans: list[Span] = []
    for segment in reversed(stream.segments if count > 0 else ()):
        opened = segment.open() if segment.size else None
        if opened is None:
            continue
        with opened:
            is_split = bool(spans) and not _ends_line(opened, segment.size)  # it has a part of a line
            if count <= 0 and not is_split:
                break
            start, found = _start_of_last(opened, segment.size, count + is_split)
        spans.insert(0, Span(segment, start))
        count -= found - is_split
        if start:
            break
    return spans


def _ends_line(stream: BufferedReader, size: int) -> bool:
    stream.seek(size - 1)
    return stream.read(1) == b"\n"


def _start_of_last(stream: BufferedReader, size: int, count: int) -> tuple[int, int]:
    """The offset of the last `count` lines, and how many of them there are."""
    end, found, ends = size, 0, 0
    while end > 0:
        start = max(end - BLOCK_BYTES, 0)
        stream.seek(start)
        data = stream.read(end - start)
        place = len(data) - 1 if end == size and data.endswith(b"\n") else len(data)  # the end of the last line
        while (place := data.rfind(b"\n", 0, place)) >= 0:
            ends += 1
            if ends == count:
                return start + place + 1, count
        end = start
    found = ends + 1 if size else 0
    return 0, found


def tail(path: Path, count: int) -> list[str]:
    """The last `count` lines of a file and its rotated ones, oldest first; empty if there is no file."""
    stream = find(LogFile("", path, is_error=False))
    return list(read_lines(last_lines(stream, count)))


def newest(path: Path, count: int) -> list[str]:
    """The same, newest first; empty if they cannot be read."""
    try:
        return tail(path, count)[::-1]
    except OSError:
        return []


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path
