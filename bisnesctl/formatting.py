"""Durations, sizes and lists for people."""

from collections.abc import Sequence

#: Names that a list has, at most.
MAX_LISTED = 4


def duration(seconds: float | None) -> str:
    """A duration in its two largest units, such as `3h 12m`."""
    if seconds is None:
        return "-"
    whole = max(int(seconds), 0)  # the clock may have been moved back
    parts = (whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")
    first = next((index for index, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number}{unit}" for number, unit in parts[first : first + 2])


def size(number: int | None) -> str:
    """Bytes in MB or GB."""
    if number is None:
        return "-"
    return f"{number / 2**20:.0f} MB" if number < 2**30 else f"{number / 2**30:.1f} GB"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, of which only the first are listed."""
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
