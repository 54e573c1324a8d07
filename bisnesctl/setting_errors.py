"""Refused values of settings, as people may see them."""

from bisnesctl import masking

#: Characters of a refused value that are shown, at most.
MAX_VALUE_LENGTH = 60


def shown_value(value: str) -> str:
    """A refused value for people, without credentials."""
    masked = masking.text(value)
    return repr(masked if len(masked) <= MAX_VALUE_LENGTH else f"{masked[:MAX_VALUE_LENGTH]}…")
