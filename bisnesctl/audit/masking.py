"""Masks secrets in what is recorded: by the name of a field or option, and by the looks of a value."""

import re
from typing import Any

from bisnesctl import masking
from bisnesctl.masking import KEY_PREFIX_LENGTH, MASK

#: Characters of a value, at most.
MAX_VALUE = 300
#: Further fields with secrets: `code` is the one-time code of Meta's embedded signup.
_FURTHER_NAMES = frozenset({"code", "pin", "qr"})
#: API keys, of which the stored prefix stays.
_KEY = re.compile(rf"\bbk_[A-Za-z0-9_-]{{{KEY_PREFIX_LENGTH - 3},}}")
#: Access tokens of Meta.
_TOKEN = re.compile(r"\bEAA[A-Za-z0-9]{12,}")
#: Values in the query of a URL.
_QUERY = re.compile(r"(?<=[?&])([^=&#\s]+)=[^&#\s]+")


def text(value: str) -> str:
    """The text without the secrets that are known by their looks."""
    value = _KEY.sub(lambda found: f"{found[0][:KEY_PREFIX_LENGTH]}…", value)
    value = _TOKEN.sub(MASK, masking.text(value))
    return _QUERY.sub(rf"\1={MASK}", value) if "://" in value else value


def is_secret(name: str) -> bool:
    """Whether a field or an option of this name has a secret as its value."""
    return name.lower() in _FURTHER_NAMES or masking.is_secret(name)


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
