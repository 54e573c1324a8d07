"""Times that people type and read: `1h` (ago), `2026-01-31T08:00`, `08:00`; and one form in which all commands show
times.
"""

import re
import time
from datetime import datetime, timedelta

from bisnesctl.errors import UsageError

#: Seconds in each unit of a duration.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
#: Seconds for which a time of day needs no date.
_NO_DATE_SECONDS = 20 * 3600
_PART = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_DURATION = re.compile(r"(?:\d{1,9}[smhdw])+", re.ASCII)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z", re.ASCII)
_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?", re.ASCII)


def parse_duration(text: str) -> float | None:
    """The seconds of a duration such as `90s`, `1h30m` or `2d`; None if the text is none."""
    if not _DURATION.fullmatch(text):
        return None
    return float(sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def parse(text: str, option: str, now: float | None = None) -> float:
    """The time that was typed for an option, in seconds since the epoch: a duration before now, or a time.

    A time without a zone is local; a time of day is the last one of that time. Raises `UsageError`.
    """
    now = time.time() if now is None else now
    ago = parse_duration(text.strip().removesuffix("ago").strip())
    if ago is not None:
        return now - ago
    try:
        if _CLOCK.fullmatch(text.strip()):
            return _last_time_of_day(text.strip(), now)
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{option} {text}: it is no time. Write a duration such as 30m, 2h or 1d (ago), or a time such as 08:30, "
            "2026-01-31 or 2026-01-31T08:30"
        ) from None


def _last_time_of_day(text: str, now: float) -> float:
    hour, minute, *second = (int(each) for each in text.split(":"))
    today = datetime.fromtimestamp(now).astimezone()
    then = today.replace(hour=hour, minute=minute, second=second[0] if second else 0, microsecond=0)
    return (then if then <= today else then - timedelta(days=1)).timestamp()


def shown(at: float) -> str:
    """A time for people, with its zone: `2026-01-31 08:30:00 CET`."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))
    except (ValueError, OverflowError, OSError):
        return "?"


def clock(at: float) -> str:
    """The time of day for people, with its zone: `08:30 CET`; with the date, unless it was within the last hours."""
    return time.strftime("%H:%M %Z" if time.time() - at < _NO_DATE_SECONDS else "%Y-%m-%d %H:%M %Z", time.localtime(at))


def from_database(text: str | None) -> str | None:
    """A time as PostgreSQL writes it, or as JSON has it, in the form of `iso`; other texts stay, such as `infinity`."""
    if text is None:
        return None
    try:
        return iso(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return text


def shown_iso(text: str) -> str:
    """A time in the form of `iso` for people; other texts stay."""
    return shown(datetime.fromisoformat(text).timestamp()) if _ISO.fullmatch(text) else text


def iso(at: float) -> str:
    """A time for programs: `2026-01-31T07:30:00.123Z`."""
    millis = round(at * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(millis // 1000))}.{millis % 1000:03d}Z"
