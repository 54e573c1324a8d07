"""Masks secrets in what is recorded: by the name of a field or option, and by the looks of a value."""

import re
from typing import Any

from bisnesctl.database.api_keys import PREFIX_LENGTH

#: Stands for a secret.
MASK = "***"
#: Characters of a value, at most.
MAX_VALUE = 300
#: Fields and options whose values are secrets. `code` is the one-time code of Meta's embedded signup.
_SECRET_NAME = re.compile(
    r"(token|secret|passw|credential|authorization|cookie|api_?-?key|access_?-?key|private|\bkey_hash|encryption)"
    r"|^(code|pin|key|qr)$",
    re.IGNORECASE,
)
#: API keys, of which the stored prefix stays.
_KEY = re.compile(rf"\bbk_[A-Za-z0-9_-]{{{PREFIX_LENGTH - 3},}}")
#: Access tokens of Meta.
_TOKEN = re.compile(r"\bEAA[A-Za-z0-9]{12,}")
#: The user and password of a URL.
_USER = re.compile(r"(?<=://)[^/?#\s@]*@")
#: Values in the query of a URL.
_QUERY = re.compile(r"(?<=[?&])([^=&#\s]+)=[^&#\s]+")


def text(value: str) -> str:
    """The text without the secrets that are known by their looks."""
    value = _KEY.sub(lambda found: f"{found[0][:PREFIX_LENGTH]}…", value)
    value = _USER.sub(f"{MASK}@", _TOKEN.sub(MASK, value))
    return _QUERY.sub(rf"\1={MASK}", value) if "://" in value else value


def is_secret(name: str) -> bool:
    """Whether a field or an option of this name has a secret as its value."""
    return _SECRET_NAME.search(name) is not None


def masked(value: Any, name: str = "") -> Any:
    """The value of the field `name` without secrets; long texts are shortened."""
    if isinstance(value, bool) or value is None:
        return value
    if name and is_secret(name):
        return MASK
    if isinstance(value, dict):
        return {str(key): masked(each, str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked(each) for each in value]
    if isinstance(value, str):
        value = text(value)
        return value if len(value) <= MAX_VALUE else f"{value[: MAX_VALUE - 1]}…"
    return value
