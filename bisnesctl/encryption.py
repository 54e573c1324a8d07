"""Encryption of stored credentials: AES-256-GCM with ENCRYPTION_KEY.

Credentials of numbers are stored in the former system's format, `<iv>:<tag>:<ciphertext>` in hex, because its server
reads the same rows. All other secrets are bound to their row: the format is `v2:` and the base64 of nonce, ciphertext
and tag, and the name of the row is authenticated, so that a ciphertext is useless in another row. `v1:`, the same
without a name, is read as well. The library is imported when it is used, because it takes 6 MB that most processes
never need.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
from collections.abc import Sequence

from bisnesctl.errors import BisnesError

#: Bytes of a nonce (NIST SP 800-38D, 8.2.2: random, 96 bits).
NONCE_BYTES = 12
#: Bytes of the tag that authenticates a ciphertext.
TAG_BYTES = 16
#: Bytes of an AES-256 key.
KEY_BYTES = 32
#: The beginning of a ciphertext that is not bound to a row, and of one that is.
PREFIX, BOUND_PREFIX = "v1:", "v2:"
#: The beginning of the message about a credential that was stored with another key.
OTHER_KEY = "a stored credential cannot be decrypted, because it was stored with another ENCRYPTION_KEY"

#: ENCRYPTION_KEY, or that one and the keys before it.
Keys = str | Sequence[str]


class EncryptionError(BisnesError):
    """A stored credential cannot be read."""


class NoCredential(EncryptionError):
    """No credential is stored: store one with `bisnesctl bots add … --token-stdin`."""


def key_bytes(key: str) -> bytes:
    """The 32 bytes of ENCRYPTION_KEY: 64 hex digits, or 32 characters. Raises `EncryptionError`."""
    if len(key) == 2 * KEY_BYTES:
        try:
            return bytes.fromhex(key)
        except ValueError:
            pass
    if len(raw := key.encode()) == KEY_BYTES:
        return raw
    raise EncryptionError("ENCRYPTION_KEY must be 64 hex digits or 32 characters (`bisnesctl init` generates one)")


def encrypt(key: str, text: str, row: str) -> str:
    """The text encrypted with the key, readable only as a secret of `row`, such as `webhook:<id>`."""
    nonce, sealed = _seal(key, text, row)
    return BOUND_PREFIX + base64.b64encode(nonce + sealed).decode()


def encrypt_shared(key: str, text: str) -> str:
    """The text encrypted with the key, in the format that the former server reads as well."""
    nonce, sealed = _seal(key, text, "")
    return f"{nonce.hex()}:{sealed[-TAG_BYTES:].hex()}:{sealed[:-TAG_BYTES].hex()}"


def decrypt(keys: Keys, stored: str | None, row: str = "") -> str:
    """The text that was encrypted with one of the keys; `row`: the row that has it.

    Raises `NoCredential` if nothing is stored, `EncryptionError` if it was encrypted with another key or for another
    row, or was changed since.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not stored:
        raise NoCredential
    for key in [keys] if isinstance(keys, str) else keys:
        with contextlib.suppress(ValueError, binascii.Error, InvalidTag):
            nonce, sealed = _split(stored)
            name = row.encode() if stored.startswith(BOUND_PREFIX) else None
            return AESGCM(key_bytes(key)).decrypt(nonce, sealed, name).decode()
    raise EncryptionError(
        f"{OTHER_KEY}: restore that key, or store the credential again (`bisnesctl bots add … --token-stdin`)"
    )


def decrypts(keys: Keys, stored: str | None, row: str = "") -> bool:
    """Whether `decrypt` succeeds."""
    try:
        decrypt(keys, stored, row)
    except EncryptionError:
        return False
    return True


def _seal(key: str, text: str, row: str) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(NONCE_BYTES)
    return nonce, AESGCM(key_bytes(key)).encrypt(nonce, text.encode(), row.encode() or None)


def derived(key: str, purpose: str, *parts: str) -> str:
    """A secret for one purpose, always the same for the same key: 64 hex digits.

    It is the HMAC-SHA256 of the purpose and the parts, joined by NUL, so it need not be stored. Raises `ValueError` if
    a part contains NUL, because then two lists of parts could give the same secret.
    """
    words = (purpose, *parts)
    if any("\0" in word for word in words):
        raise ValueError("a secret cannot be derived from text with NUL")
    return hmac.new(key.encode(), "\0".join(words).encode(), hashlib.sha256).hexdigest()


def _split(stored: str) -> tuple[bytes, bytes]:
    if stored.startswith((PREFIX, BOUND_PREFIX)):
        raw = base64.b64decode(stored[len(PREFIX) :], validate=True)
        return raw[:NONCE_BYTES], raw[NONCE_BYTES:]
    nonce, tag, ciphertext = (bytes.fromhex(part) for part in stored.split(":"))
    return nonce, ciphertext + tag
