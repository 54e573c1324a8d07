"""Errors of the Redis client in words that name the cause."""

import re

#: Words of Redis or its client → their meaning. The first that occurs counts.
_MEANINGS = {
    "HELLO must be called": "it requires a password, and none is set",
    "NOAUTH": "it requires a password, and none is set",
    "WRONGPASS": "it refuses the user or the password",
    "invalid username-password pair": "it refuses the user or the password",
    "invalid password": "it refuses the user or the password",
    "without any password configured": "it has no password, but one is set",
    "NOPERM": "its user lacks permissions: it needs all commands and keys",
    "loading the dataset": "it is still loading its data",
    "LOADING": "it is still loading its data",
    "max number of clients": "all its connections are in use",
    "must specify one of the following schemes": "its URL must begin with redis://, rediss:// or unix://",
}
_CONNECTING = re.compile(r"Error -?\d+ (?:while )?(?:connecting to|writing to|reading from) .*?\. (?P<why>.+?)\.?")


def explain(error: Exception, timeout: float) -> str:
    """The cause in one line. `timeout`: the seconds that Redis had for each answer."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    for said, meaning in _MEANINGS.items():
        if said in text:
            return meaning
    if "Timeout" in type(error).__name__ or "timed out" in text.lower():
        return f"it did not answer within {timeout:g} s"
    found = _CONNECTING.fullmatch(text)
    return f"it cannot be reached: {found['why'].lower()}" if found else text
