"""Values in addresses and forms of pages. One that is no such value is the same as none."""

from uuid import UUID

#: Digits of a number, at most, unless a page says otherwise.
MAX_DIGITS = 9


def number(text: str | None, max_digits: int = MAX_DIGITS) -> int | None:
    """A number such as that of a phone."""
    return int(text) if text and text.isdecimal() and len(text) <= max_digits else None


def position(text: str) -> tuple[float, str] | None:
    """The time, in seconds since the epoch, and the id of the row after which the next page begins."""
    at, _, identity = text.partition("_")
    try:
        return float(at), str(UUID(identity))
    except ValueError:
        return None


def position_text(at: float, identity: str) -> str:
    """A position as `position` reads it."""
    return f"{at!r}_{identity}"
