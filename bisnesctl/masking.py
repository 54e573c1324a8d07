"""Masks secrets in what is shown: variables, command lines and addresses. Names stay, values do not."""

import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

#: Stands for a secret.
MASK = "***"
#: Characters of an API key that are stored and shown in plain text, to tell keys apart.
KEY_PREFIX_LENGTH = 8
_SECRET_NAME = re.compile(
    r"secret|token|passw|pwd|passphrase|credential|cookie|private|auth|dsn|signature|(^|_|-)(keys?|pass|pat)($|_|-)|apikey",
    re.I,
)
#: Variables whose names look like secrets and are none.
_PUBLIC_NAMES = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK", "XAUTHORITY", "QUOTA_IDEMPOTENCY_KEYS"})
#: To the last at sign, since a password may have one that is not encoded.
_IN_URL = re.compile(r"(?<=://)[^/\s]*@")
_PASSWORD_WORD = re.compile(
    r"(?i)\b((?:password|passwd|pwd|token|secret|api[_-]?key)\s*=\s*)(?:'[^']*'?|\"[^\"]*\"?|[^\s&'\"]+)"
)
_OPTION = re.compile(r"(--?[\w-]+)=(.*)", re.DOTALL)
#: Parts of an address that look drawn at random, as in hooks whose path is their secret.
_RANDOM_PART = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w.~-]{16,}")


def is_secret(name: str, secrets: Collection[str] = ()) -> bool:
    """Whether the value of a variable of this name is a secret. `secrets`: names that are known to be, in capitals."""
    return name.upper() in secrets or (name.upper() not in _PUBLIC_NAMES and bool(_SECRET_NAME.search(name)))


def text(words: str) -> str:
    """Words without credentials in addresses, and without passwords after an equals sign."""
    return _PASSWORD_WORD.sub(rf"\1{MASK}", _IN_URL.sub(f"{MASK}@", words))


def environment(variables: Mapping[str, str], secrets: Collection[str] = ()) -> dict[str, str]:
    """The variables by name, in order, with secret values masked; an empty value is no secret."""
    return {
        name: MASK if value and is_secret(name, secrets) else text(value) for name, value in sorted(variables.items())
    }


def command_line(words: Iterable[str]) -> list[str]:
    """The words of a command line, with values of options such as `--token` masked."""
    found: list[str] = []
    secret_follows = False
    for word in words:
        option = _OPTION.fullmatch(word)
        if secret_follows and not word.startswith("-"):
            found.append(MASK)
        elif option and is_secret(option[1].lstrip("-")):
            found.append(f"{option[1]}={MASK}")
        else:
            found.append(text(word))
        secret_follows = word.startswith("-") and not option and is_secret(word.lstrip("-"))
    return found


def address(url: str) -> str:
    """The address of a webhook without what may be its secret: user, query, and parts of the path that look random."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return MASK
    path = "/".join(MASK if _RANDOM_PART.fullmatch(each) else each for each in parts.path.split("/"))
    user = f"{MASK}@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{user}{host}{path}{'?' + MASK if parts.query else ''}"
