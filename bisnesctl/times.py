"""Durations and moments as people type them, and moments as the tool prints them."""

import re
import time
from datetime import UTC, date, datetime, timedelta

from bisnesctl.errors import UsageError

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])[a-z]*\s*", re.IGNORECASE)
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")
#: Seconds of the longest duration; longer ones would be before the year 1.
MAX_DURATION_SECONDS = 1000 * 365 * 86400


def parse_duration(text: str) -> float:
    """The seconds of a duration such as `90s`, `10m`, `1h30m` or `2d`. Raises `UsageError`."""
    parts, end = 0.0, 0
    for found in _PART.finditer(text.strip()):
        if found.start() != end:
            break
        parts, end = parts + float(found[1]) * _UNIT_SECONDS[found[2].lower()], found.end()
    if not end or end != len(text.strip()) or parts > MAX_DURATION_SECONDS:
        raise UsageError(f"{text} is no duration: write it as 90s, 10m, 1h30m or 2d")
    return parts


def parse_moment(text: str, now: float | None = None) -> float:
    """A moment in seconds since the epoch: a duration before now, or a time. Raises `UsageError`.

    A time without a zone is local. A time without a date is the last one before now.
    """
    now = time.time() if now is None else now
    words = text.strip().lower()
    today = datetime.fromtimestamp(now).date()
    if words in ("now", "today", "yesterday"):
        return now if words == "now" else _midnight(today - timedelta(days=words == "yesterday"))
    try:
        if _CLOCK.fullmatch(words):
            return _last(words, today, now)
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        pass
    try:
        return now - parse_duration(words)
    except UsageError:
        raise UsageError(
            f"{text} is no time: write a duration before now (10m, 1h30m, 2d), a time (14:30), a date and a time "
            "(2026-01-31 14:30, 2026-01-31T14:30:00Z), today or yesterday"
        ) from None


def as_iso(moment: float) -> str:
    """The moment in UTC, such as `2026-01-31T12:00:00.123Z`."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_local(moment: float) -> str:
    """The moment in the local zone, such as `2026-01-31 12:00:00 CET`."""
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _midnight(day: date) -> float:
    return datetime.combine(day, datetime.min.time()).timestamp()


def _last(clock: str, today: date, now: float) -> float:
    moment = datetime.combine(today, datetime.strptime(clock, _clock_format(clock)).time())
    return (moment if moment.timestamp() <= now else moment - timedelta(days=1)).timestamp()


def _clock_format(clock: str) -> str:
    return "%H:%M" + (":%S" if clock.count(":") > 1 else "") + (".%f" if "." in clock else "")
