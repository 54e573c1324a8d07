"""Reading what others wrote: JSON of any shape, without ever failing on it.

What is read here may go into PostgreSQL, which takes neither NUL characters nor halves of surrogate pairs in its texts.
"""

import json
import time
from typing import Any

import orjson

#: Levels of nesting that are kept; Meta's webhooks have about ten, the events of a page fewer.
MAX_DEPTH = 40
#: Characters in an id or a name, at most; the history's columns have 255.
MAX_NAME = 255
#: Seconds since the epoch above which a timestamp must be in milliseconds (the year 5138).
_MILLISECONDS_FROM = 1e11
_LARGEST = 2**63


def load(body: bytes) -> Any:
    """A body's JSON, fit to be kept. Raises ValueError where it is none."""
    try:
        return _kept(orjson.loads(body), 0)
    except orjson.JSONDecodeError as error:
        reason = error
    try:  # halves of surrogate pairs, which are no text but valid JSON
        return _kept(json.loads(body), 0)
    except (ValueError, RecursionError):
        raise ValueError(f"not valid JSON: {reason}") from None


def _kept(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        return str(value)[:MAX_NAME]
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {text_of(name): _kept(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [_kept(inner, depth + 1) for inner in value]
    return value


def text_of(value: str) -> str:
    """A text as PostgreSQL takes it."""
    return value.replace("\0", "").encode(errors="replace").decode()


def field(value: Any, *names: str) -> Any:
    """What an object has under a name, and so on inwards; None where there is no such thing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def objects(value: Any, name: str) -> list[dict[str, Any]]:
    """The objects in the list under a name; an empty list where there is none."""
    found = field(value, name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def text(value: Any, *names: str) -> str | None:
    """The text under a name, and so on inwards; None where there is none."""
    found = field(value, *names)
    return found if isinstance(found, str) and found else None


def name_of(value: Any, *names: str) -> str | None:
    """An id or a name: a printable text or a whole number; None for anything else."""
    found = field(value, *names)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) and 0 < len(found) <= MAX_NAME and found.isprintable() else None


def seconds(timestamp: Any) -> float:
    """Seconds since the epoch from the provider's seconds or milliseconds, text or number; now where it is neither."""
    try:
        at = float(timestamp)
    except (TypeError, ValueError, OverflowError):
        return time.time()
    if at >= _MILLISECONDS_FROM:
        at /= 1000
    return at if 0 < at < _MILLISECONDS_FROM else time.time()
