"""Passwords: kept as a hash of scrypt (RFC 7914), which needs 32 MiB of memory for each attempt."""

import base64
import hashlib
import hmac
import os
import threading

from bisnesctl.errors import UsageError

#: Characters of a password, at least.
MIN_LENGTH = 12
#: Characters of a password, at most.
MAX_LENGTH = 256
#: The cost: 2^15 blocks of 8 * 128 bytes. A stored hash names its own.
_N, _R, _P = 1 << 15, 8, 1
_SALT_BYTES = 16
_HASH_BYTES = 32
#: Bytes that one computation may use, at most.
_MAX_MEMORY = 128 << 20
#: Computations at a time, so that many attempts do not use up the memory.
_computing = threading.Semaphore(2)


def check(password: str, name: str) -> None:
    """Raises `UsageError` if a person with this name should not have such a password."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise UsageError(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
    if len(set(password)) < 5 or name.casefold() in password.casefold():
        raise UsageError("the password is too easy to guess: it repeats few characters, or has the name in it")


def hash_of(password: str) -> str:
    """A new hash, as `scrypt$<n>$<r>$<p>$<salt>$<hash>` with base64."""
    salt = os.urandom(_SALT_BYTES)
    parts = (salt, _compute(password, salt, _N, _R, _P))
    return "$".join(["scrypt", str(_N), str(_R), str(_P), *(base64.b64encode(part).decode() for part in parts)])


#: The hash of no password, so that an unknown name takes as long as a known one.
NOBODY = f"scrypt${_N}${_R}${_P}${base64.b64encode(bytes(_SALT_BYTES)).decode()}${base64.b64encode(bytes(32)).decode()}"


def verify(password: str, stored: str) -> bool:
    """Whether a hash is of this password; in constant time."""
    _, n, r, p, salt, digest = stored.split("$")
    found = _compute(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(digest))


def _compute(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    raw = password.encode("utf-8", "surrogatepass")
    with _computing:
        return hashlib.scrypt(raw, salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=_HASH_BYTES)
