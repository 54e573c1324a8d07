"""Readers of JSON that others wrote: they accept any shape and never fail on it.

The values may be stored in PostgreSQL, whose texts allow neither NUL characters nor halves of surrogate pairs.
"""

import json
import math
import time
from typing import Any

import orjson

#: Maximum depth of nesting that is kept. Meta's webhooks have about ten levels, the events of a page fewer.
MAX_DEPTH = 40
#: Maximum length of an id or a name, in characters; the columns of the history have 255.
MAX_NAME = 255
#: A timestamp at or above this value is in milliseconds: as seconds it would be the year 5138.
_FIRST_MILLISECONDS = 1e11
_FIRST_TOO_LARGE_INTEGER = 2**63


def load(body: bytes) -> Any:
    """A body's JSON, made fit for PostgreSQL. Raises ValueError if it is not JSON."""
    try:
        return _storable(orjson.loads(body), 0)
    except orjson.JSONDecodeError as error:
        reason = error
    try:  # orjson refuses halves of surrogate pairs, which are not text but valid JSON
        return _storable(json.loads(body), 0)
    except (ValueError, RecursionError):
        raise ValueError(f"not valid JSON: {reason}") from None


def _storable(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, int) and not -_FIRST_TOO_LARGE_INTEGER <= value < _FIRST_TOO_LARGE_INTEGER:
        return str(value)[:MAX_NAME]
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {storable_text(name): _storable(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner, depth + 1) for inner in value]
    return value


def check(value: Any, depth: int = 0) -> None:
    """Raise ValueError, with the reason, unless PostgreSQL can store this value of orjson's as it is."""
    if isinstance(value, str) and "\0" in value:
        raise ValueError("contain a NUL character")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("contain a number that is too large")
    if isinstance(value, dict | list):
        if depth >= MAX_DEPTH:
            raise ValueError(f"are nested more than {MAX_DEPTH} levels deep")
        for inner in (*value, *value.values()) if isinstance(value, dict) else value:
            check(inner, depth + 1)


def storable_text(value: str) -> str:
    """The text without the characters that PostgreSQL refuses."""
    return value.replace("\0", "").encode(errors="replace").decode()


def field(value: Any, *names: str) -> Any:
    """The value at a path of names within nested objects; None if the path does not exist."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def objects(value: Any, name: str) -> list[dict[str, Any]]:
    """The objects in the list under a name; an empty list if there is no such list."""
    found = field(value, name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def text(value: Any, *names: str) -> str | None:
    """The text at a path; None if there is none or it is empty."""
    found = field(value, *names)
    return found if isinstance(found, str) and found else None


def name_of(value: Any, *names: str) -> str | None:
    """The id or name at a path: a printable text or an integer. None for anything else."""
    found = field(value, *names)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) and 0 < len(found) <= MAX_NAME and found.isprintable() else None


def seconds(timestamp: Any) -> float:
    """Seconds since the epoch from a provider's seconds or milliseconds, as text or number; now if it is neither."""
    try:
        at = float(timestamp)
    except (TypeError, ValueError, OverflowError):
        return time.time()
    if at >= _FIRST_MILLISECONDS:
        at /= 1000
    return at if 0 < at < _FIRST_MILLISECONDS else time.time()
