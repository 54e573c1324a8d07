"""Credentials at rest: AES-256-GCM under ENCRYPTION_KEY.

Written as `v1:` and the base64 of nonce, ciphertext and tag. What the old system wrote, `<iv>:<tag>:<ciphertext>` in
hex, is read as well. The library is imported where it is used: most processes never do, and it takes 6 MB.
"""

import base64
import binascii
import hashlib
import hmac
import os

from bisnesctl.errors import BisnesError

#: Bytes of a nonce (NIST SP 800-38D, 8.2.2: random, 96 bits).
NONCE = 12
PREFIX = "v1:"


class EncryptionError(BisnesError):
    """A stored credential cannot be read."""


def key_bytes(key: str) -> bytes:
    """The 32 bytes of ENCRYPTION_KEY: 64 hex digits, or 32 characters. Raises `EncryptionError`."""
    if len(key) == 64:
        try:
            return bytes.fromhex(key)
        except ValueError:
            pass
    if len(raw := key.encode()) == 32:
        return raw
    raise EncryptionError("ENCRYPTION_KEY must be 64 hex digits or 32 characters (bisnesctl init makes one)")


def encrypt(key: str, text: str) -> str:
    """The text, readable again only under the key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(NONCE)
    sealed = AESGCM(key_bytes(key)).encrypt(nonce, text.encode(), None)
    return PREFIX + base64.b64encode(nonce + sealed).decode()


def decrypt(key: str, stored: str) -> str:
    """What was encrypted under the key. Raises `EncryptionError` where it was not, or was changed since."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        nonce, sealed = _split(stored)
        return AESGCM(key_bytes(key)).decrypt(nonce, sealed, None).decode()
    except (ValueError, binascii.Error, InvalidTag) as error:
        raise EncryptionError(
            "a stored credential cannot be decrypted: ENCRYPTION_KEY is not the one it was stored under; "
            "restore that key, or store the credential again (bisnesctl bots add … --token-stdin)"
        ) from error


def derived(key: str, purpose: str, *parts: str) -> str:
    """A secret of its own for a purpose, always the same under the same key: 64 hex digits.

    HMAC-SHA256 of the purpose and the parts, NUL between them, so that it need not be stored anywhere. The parts may
    hold no NUL: that would make two lists one, and raises `ValueError`.
    """
    words = (purpose, *parts)
    if any("\0" in word for word in words):
        raise ValueError("what a secret is derived from holds no NUL")
    return hmac.new(key.encode(), "\0".join(words).encode(), hashlib.sha256).hexdigest()


def _split(stored: str) -> tuple[bytes, bytes]:
    if stored.startswith(PREFIX):
        raw = base64.b64decode(stored[len(PREFIX) :], validate=True)
        return raw[:NONCE], raw[NONCE:]
    nonce, tag, ciphertext = (bytes.fromhex(part) for part in stored.split(":"))
    return nonce, ciphertext + tag
