"""Merges the records of several streams in the order of their times. It reads lazily, so memory stays small."""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from bisnesctl.logs.files import LogStream, Span, last_lines, read_lines
from bisnesctl.logs.records import Record, RecordReader, spans_since

#: Whether a record is shown.
Keep = Callable[[Record], bool]


@dataclass(frozen=True)
class Extent:
    """How much of each stream is read."""

    #: The last lines of each stream, or with `keep` the last records that it keeps; None: all.
    lines: int | None = None
    #: Seconds since the epoch before which nothing need be read.
    since: float | None = None


def merged(
    streams: Iterable[LogStream], extent: Extent, zone: tzinfo | None = None, keep: Keep | None = None
) -> Iterator[Record]:
    """The records of all streams, by their times. `zone`: of times without one; None: that of this machine."""
    ordered = [_ordered(index, _kept(stream, extent, zone, keep)) for index, stream in enumerate(streams)]
    for _, _, record in heapq.merge(*ordered):
        yield record


def by_time(records: Sequence[Record]) -> list[Record]:
    """Records of several streams that were written since the last look, by their times."""
    latest: dict[object, float] = {}
    keyed = []
    for record in records:
        time = latest[record.file] = max(record.time, latest.get(record.file, 0.0))
        keyed.append((time, record))
    return [record for _, record in sorted(keyed, key=lambda each: each[0])]


def _kept(stream: LogStream, extent: Extent, zone: tzinfo | None, keep: Keep | None) -> Iterable[Record]:
    records = RecordReader(stream.file, zone, stream.modified_at).read(read_lines(_spans(stream, extent, zone, keep)))
    if keep is None:
        return records
    found = filter(keep, records)
    return found if extent.lines is None else deque(found, extent.lines)


def _spans(stream: LogStream, extent: Extent, zone: tzinfo | None, keep: Keep | None) -> list[Span]:
    if keep is None and extent.lines is not None:
        return last_lines(stream, extent.lines)
    if extent.since is not None:
        return spans_since(stream, extent.since, zone)
    return [Span(segment) for segment in stream.segments]


def _ordered(index: int, records: Iterable[Record]) -> Iterator[tuple[float, int, Record]]:
    """The records of a stream with keys to merge by. They stay in their order, even if the clock was set back."""
    latest = 0.0
    for record in records:
        latest = max(latest, record.time)
        yield latest, index, record
