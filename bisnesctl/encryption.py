"""Encryption of stored credentials: AES-256-GCM with ENCRYPTION_KEY.

The format is `v1:` and the base64 of nonce, ciphertext and tag. The format of the old system, `<iv>:<tag>:<ciphertext>`
in hex, can be read as well. The library is imported when it is used, because it takes 6 MB that most processes never
need.
"""

import base64
import binascii
import hashlib
import hmac
import os

from bisnesctl.errors import BisnesError

#: Bytes of a nonce (NIST SP 800-38D, 8.2.2: random, 96 bits).
NONCE_BYTES = 12
#: Bytes of an AES-256 key.
KEY_BYTES = 32
PREFIX = "v1:"


class EncryptionError(BisnesError):
    """A stored credential cannot be read."""


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


def encrypt(key: str, text: str) -> str:
    """The text encrypted with the key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(key_bytes(key)).encrypt(nonce, text.encode(), None)
    return PREFIX + base64.b64encode(nonce + sealed).decode()


def decrypt(key: str, stored: str) -> str:
    """The text that was encrypted with the key. Raises `EncryptionError` if it was not, or was changed since."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        nonce, sealed = _split(stored)
        return AESGCM(key_bytes(key)).decrypt(nonce, sealed, None).decode()
    except (ValueError, binascii.Error, InvalidTag) as error:
        raise EncryptionError(
            "a stored credential cannot be decrypted, because it was stored with another ENCRYPTION_KEY: "
            "restore that key, or store the credential again (`bisnesctl bots add … --token-stdin`)"
        ) from error


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
    if stored.startswith(PREFIX):
        raw = base64.b64decode(stored[len(PREFIX) :], validate=True)
        return raw[:NONCE_BYTES], raw[NONCE_BYTES:]
    nonce, tag, ciphertext = (bytes.fromhex(part) for part in stored.split(":"))
    return nonce, ciphertext + tag
