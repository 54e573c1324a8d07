"""Shows log files on the terminal. Lines of several processes are merged by time and have a coloured prefix."""

import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo

from rich.text import Text

from bisnesctl import moments
from bisnesctl.logs import merge
from bisnesctl.logs.files import LogFile, LogStream, find
from bisnesctl.logs.filters import Filter
from bisnesctl.logs.follow import Follower
from bisnesctl.logs.formats import parse_fields
from bisnesctl.logs.merge import Extent
from bisnesctl.logs.records import Record, RecordReader
from bisnesctl.terminal import output, printable

#: Seconds between reads of the files.
READ_INTERVAL_SECONDS = 0.1
#: Records that are printed at once.
_BATCH = 500
_COLOURS = (
    *("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_yellow"),
    *("bright_magenta", "bright_blue", "dark_orange", "orchid", "spring_green3", "deep_sky_blue1"),
)


class LogView:
    """The logs as they were when it was made; `show_new` and `follow` show what is added from then on."""

    def __init__(
        self,
        files: Sequence[LogFile],
        condition: Filter | None = None,
        zone: tzinfo | None = None,
        as_json: bool = False,
    ) -> None:
        """`condition`: which records are shown. `zone`: of times without one."""
        self._condition, self._zone, self._as_json = condition or Filter(), zone, as_json
        self._streams = [find(file) for file in files]
        self._followers = [
            (Follower(each.file.path, each), RecordReader(each.file, zone)) for each in self._streams
        ]  # fmt: skip
        names = list(dict.fromkeys(file.instance for file in files))
        self._width = max((len(name) for name in names), default=0) if len(names) > 1 else 0
        self._prefixes: dict[LogFile, str] = {}
        self.shown = 0  # records

    @property
    def streams(self) -> list[LogStream]:
        """The files as they were when it was made."""
        return self._streams

    def show_tail(self, count: int | None) -> None:
        """Prints the last `count` lines of each file, or with a condition the last records of each; None: all."""
        keep = None if self._condition.keeps_all else self._condition.keeps
        self._print(merge.merged(self._streams, Extent(count, self._condition.since), self._zone, keep))

    def report_silence(self) -> None:
        """Names the instances that have logged nothing, which may look like wrong names."""
        for name in dict.fromkeys(each.file.instance for each in self._streams):
            own = [each for each in self._streams if each.file.instance == name]
            if not all(each.is_empty for each in own):
                continue
            since = max(each.modified_at for each in own)
            ago = f"since {moments.shown(since)}: its files are empty" if since else "yet"
            verb = "logged nothing" if since else "not logged anything"
            where = " to its standard error" if all(each.file.is_error for each in own) else ""
            output.say(output.escape(f"{name} has {verb}{where} {ago} in {own[0].file.path.parent}"))

    def show_new(self) -> None:
        """Prints the records that were added since the last call."""
        found: list[Record] = []
        for follower, reader in self._followers:
            if lines := follower.lines():
                found += reader.read(lines, now=time.time())
        self._print(each for each in merge.by_time(found) if self._condition.keeps(each))

    def follow(self, until: Callable[[], bool]) -> None:
        """Prints new records until `until` returns true."""
        while not until():
            self.show_new()
            time.sleep(READ_INTERVAL_SECONDS)
        self.show_new()

    def _print(self, records: Iterable[Record]) -> None:
        line = _as_json if self._as_json else self._as_text
        batch: list[str] = []
        for record in records:
            batch.append(line(record))
            self.shown += 1
            if len(batch) == _BATCH:
                output.write_lines(batch)
                batch.clear()
        output.write_lines(batch)

    def _as_text(self, record: Record) -> str:
        prefix = self._prefixes.get(record.file)
        if prefix is None:
            prefix = self._prefixes[record.file] = output.rendered(self._prefix(record.file)) if self._width else ""
        return "\n".join(prefix + output.log_line(line) for line in record.text.split("\n"))

    def _prefix(self, file: LogFile) -> Text:
        colour = _COLOURS[zlib.crc32(file.instance.encode()) % len(_COLOURS)]
        sign = ("! ", "red") if file.is_error else ("| ", "dim")
        return Text.assemble((f"{file.instance:<{self._width}} ", colour), sign)


def _as_json(record: Record) -> str:
    fields = parse_fields(record.text) if record.text.startswith("timestamp=") else {}
    return printable.as_json(
        {
            "time": moments.iso(record.time),
            "process": record.file.instance,
            "stream": "err" if record.file.is_error else "out",
            "level": record.level_name,
            "event": fields.pop("event", None),
            "fields": {name: text for name, text in fields.items() if name not in ("timestamp", "level")},
            "text": record.text,
        },
        indent=None,
    )
