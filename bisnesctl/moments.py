"""Moments as people type and read them. Within the tool a moment is in seconds since the epoch."""

import re
import time
from datetime import UTC, datetime, timedelta

from bisnesctl.errors import UsageError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)


def parse(option: str, text: str, now: float | None = None) -> float:
    """The moment that an option such as `--since` names: `2h` (ago), or 2026-01-31T08:00, local without a zone.

    Raises `UsageError`.
    """
    if ago := _AGO.fullmatch(text.strip()):
        return (time.time() if now is None else now) - timedelta(**{_UNITS[ago[2]]: int(ago[1])}).total_seconds()
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        message = f"{option} {text}: give a duration such as 2h, 30m or 1d, or a time such as 2026-01-31T08:00"
        raise UsageError(message) from None


def local(at: float) -> str:
    """A moment for people: local time with its zone, such as `2026-01-31 08:00:00 +08`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))


def iso(at: float) -> str:
    """A moment for programs: ISO 8601 in UTC with milliseconds, such as `2026-01-31T00:00:00.000Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
