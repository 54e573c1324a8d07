"""The times and levels of log lines, in all formats that the processes write.

Our own is logfmt. supervisord, PostgreSQL, Redis, gunicorn and Chromium write their own; some write local times.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

#: Levels as `--level` and our own lines name them, least severe first.
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
NAMES = {rank: name for name, rank in LEVELS.items()}

_DEBUG, _INFO, _WARNING, _ERROR, _CRITICAL = LEVELS.values()
#: Levels as others name them.
_WORDS = {
    **LEVELS,
    **dict.fromkeys(("debg", "trac", "blat", "trace", "verbose", *(f"debug{n}" for n in range(1, 6))), _DEBUG),
    **dict.fromkeys(("log", "notice"), _INFO),
    "warn": _WARNING,
    **dict.fromkeys(("erro", "err", "fatal", "exception"), _ERROR),
    **dict.fromkeys(("crit", "panic"), _CRITICAL),
}
_REDIS_SIGNS = {".": _DEBUG, "-": _DEBUG, "*": _INFO, "#": _WARNING}
#: Parts of the message before, as PostgreSQL writes them; each has a time of its own.
_POSTGRES_PARTS = frozenset({"DETAIL", "HINT", "QUERY", "CONTEXT", "LOCATION", "STATEMENT", "BACKTRACE"})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# timestamp=2026-01-31T12:00:00.123456Z level=info event=subject.what_happened
_LOGFMT = re.compile(r'timestamp="?([0-9T:.\-+]+Z?)"?(?: level=(\w+))?')
# 2026-01-31 12:00:00.123 UTC [77] LOG:  ready; other programs: 2026-01-31 12:00:00,123 INFO …
_ISO = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?)"
    r"(?P<zone>Z| ?[+-]\d\d:?(?:\d\d)?| (?:UTC|GMT))?(?=\W|$)"
    r"(?: [A-Z]{3,5}(?= \[))?(?: \[\d+\])?(?:[^:]{0,60}? )?\W{0,2}(?P<level>[A-Za-z]\w{2,8})?"
)
# 77:M 31 Jan 2026 12:00:00.123 * Ready to accept connections
_REDIS = re.compile(r"\d+:[A-Z] (\d\d) (\w{3}) (\d{4}) (\d\d:\d\d:\d\d(?:\.\d{1,6})?) ([.\-*#]) ")
# [2026-01-31 12:00:00 +0000] [77] [INFO] Starting gunicorn
_GUNICORN = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})\] \[\d+\] \[(\w+)\]")
# [77:78:0131/120000.123456:ERROR:file.cc(12)] words
_CHROMIUM = re.compile(r"\[(?:\d+:)*(\d\d)(\d\d)/(\d\d)(\d\d)(\d\d)(\.\d+)?:([A-Z]+)\d*:")
# timestamp=… level=error event=subject.what reason="with \"quotes\""
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


@dataclass(frozen=True, slots=True)
class Stamp:
    """The head of a line: its time in seconds since the epoch, and its level."""

    time: float
    level: int | None  # None: it names none
    is_part: bool = False  # whether it belongs to the line before


class StampReader:
    """Reads the heads of the lines of one stream, in their order."""

    def __init__(self, zone: tzinfo | None = None, latest: float = float("inf")) -> None:
        """`zone`: of times without one; None: that of this machine. `latest`: no line is younger."""
        self._zone, self._latest = zone, latest
        self._before = 0.0  # the time of the last line with a local time

    def read(self, line: str) -> Stamp | None:
        """The head of a line; None if it has none."""
        try:
            found = self._read(line)
        except (ValueError, OverflowError, OSError):
            return None
        return found if found is not None and 0 <= found.time <= self._latest else None

    def _read(self, line: str) -> Stamp | None:
        first = line[:1]
        if first == "t":
            if match := _LOGFMT.match(line):
                return Stamp(datetime.fromisoformat(match[1]).timestamp(), _WORDS.get((match[2] or "").lower()))
        elif first == "[":
            if match := _GUNICORN.match(line):
                return Stamp(datetime.fromisoformat(match[1]).timestamp(), _WORDS.get(match[2].lower()))
            if match := _CHROMIUM.match(line):
                return self._chromium(match)
        elif first.isdigit():
            if match := _ISO.match(line):
                return self._iso(match)
            if match := _REDIS.match(line):
                day, month, year, clock, sign = match.groups()
                text = f"{year}-{_MONTHS.index(month) + 1:02}-{day}T{clock}"
                return Stamp(self._local(datetime.fromisoformat(text)), _REDIS_SIGNS[sign])
        return None

    def _iso(self, match: re.Match[str]) -> Stamp:
        moment = datetime.fromisoformat(match["time"].replace(",", "."))
        zone = (match["zone"] or "").strip()
        if zone in ("Z", "UTC", "GMT"):
            seconds = moment.replace(tzinfo=UTC).timestamp()
        elif zone:
            hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
            seconds = moment.replace(tzinfo=UTC).timestamp() - (hours * 3600 + minutes * 60) * (
                1 - 2 * (zone[0] == "-")
            )
        else:
            seconds = self._local(moment)
        word = match["level"] or ""
        return Stamp(seconds, _WORDS.get(word.lower()), word in _POSTGRES_PARTS)

    def _chromium(self, match: re.Match[str]) -> Stamp:
        month, day, hour, minute, second = (int(match[n]) for n in range(1, 6))
        latest = datetime.fromtimestamp(min(self._latest, time.time()), self._zone).replace(tzinfo=None)
        moment = datetime(latest.year, month, day, hour, minute, second)
        if moment > latest + timedelta(days=1):  # it has no year
            moment = moment.replace(year=latest.year - 1)
        return Stamp(self._local(moment) + float(match[6] or 0), _WORDS.get(match[7].lower()))

    def _local(self, moment: datetime) -> float:
        """A local time. Of an hour that occurs twice, the second one if the lines before are later than the first."""
        seconds = moment.replace(tzinfo=self._zone).timestamp()
        if seconds < self._before:
            second = moment.replace(tzinfo=self._zone, fold=1).timestamp()
            seconds = second if second > seconds else seconds
        self._before = seconds
        return seconds


def parse_fields(line: str) -> dict[str, str]:
    """The fields of a line in logfmt."""
    return {name: _unquoted(text) for name, text in _FIELD.findall(line)}


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return text[1:-1]


#: Returns the head of a line, or None.
ReadStamp = Callable[[str], Stamp | None]
