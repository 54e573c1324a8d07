"""The log of a row: its last records, and those that are added."""

import time
from collections import deque
from collections.abc import Sequence
from datetime import tzinfo

from bisnesctl.logs import merge
from bisnesctl.logs.files import LogFile, find
from bisnesctl.logs.filters import Filter
from bisnesctl.logs.follow import Follower
from bisnesctl.logs.merge import Extent
from bisnesctl.logs.records import Record, RecordReader

#: Last lines of each file that are read at first.
FIRST_LINES = 100
#: Records that are kept.
MAX_RECORDS = 500
#: Seconds of the logs that are searched at first if only some records are wanted.
SEARCHED_SECONDS = 3600


class LogFeed:
    """The records of some files, merged by time."""

    def __init__(self, files: Sequence[LogFile], zone: tzinfo | None = None, condition: Filter | None = None) -> None:
        """`zone`: of times without one. `condition`: which records are wanted."""
        self._condition = condition or Filter()
        streams = [find(file) for file in files]
        self._followers = [(Follower(each.file.path, each), RecordReader(each.file, zone)) for each in streams]
        keep = None if self._condition.keeps_all else self._condition.keeps
        since = None if keep is None else time.time() - SEARCHED_SECONDS
        found = merge.merged(streams, Extent(FIRST_LINES, since), zone, keep)
        self._records: deque[Record] = deque(found, MAX_RECORDS)
        self.names = list(dict.fromkeys(file.instance for file in files))

    def read(self) -> list[Record]:
        """All records that are kept, with those that were added."""
        added: list[Record] = []
        for follower, reader in self._followers:
            if lines := follower.lines():
                added += reader.read(lines, now=time.time())
        self._records.extend(each for each in merge.by_time(added) if self._condition.keeps(each))
        return list(self._records)

    def close(self) -> None:
        """Closes the files."""
        for follower, _ in self._followers:
            follower.close()
