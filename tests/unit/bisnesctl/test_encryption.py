import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.encryption import EncryptionError, decrypt, derived, encrypt

KEY = "0123456789abcdef" * 4


@given(st.text())
def test_decrypting_returns_the_encrypted_text(text):
    stored = encrypt(KEY, text)
    assert decrypt(KEY, stored) == text
    assert stored != encrypt(KEY, text)


def test_the_format_of_the_old_system_can_be_decrypted():
    key, nonce = bytes.fromhex(KEY), bytes(range(12))
    sealed = AESGCM(key).encrypt(nonce, b"EAAG-old", None)
    assert decrypt(KEY, f"{nonce.hex()}:{sealed[-16:].hex()}:{sealed[:-16].hex()}") == "EAAG-old"


@given(st.text(max_size=80))
def test_any_other_format_raises_an_encryption_error(text):
    with pytest.raises(EncryptionError, match="ENCRYPTION_KEY"):
        decrypt(KEY, text)


def test_another_key_or_a_changed_text_is_refused():
    stored = encrypt(KEY, "token")
    with pytest.raises(EncryptionError, match="ENCRYPTION_KEY"):
        decrypt("f" * 64, stored)
    with pytest.raises(EncryptionError):
        decrypt(KEY, stored[:-6] + "AAAA==")


@pytest.mark.parametrize("key", ["", "short", "g" * 64, "é" * 32])
def test_the_error_for_an_invalid_key_names_the_valid_formats(key):
    with pytest.raises(EncryptionError, match="64 hex digits or 32 characters"):
        encrypt(key, "token")


def test_a_derived_secret_is_an_hmac_of_its_purpose_and_parts():
    expected = hmac.new(KEY.encode(), b"360dialog webhook\x000128\x001", hashlib.sha256).hexdigest()
    assert derived(KEY, "360dialog webhook", "0128", "1") == expected


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))), st.text(max_size=5))
def test_other_parts_give_another_secret(parts, more):
    assert derived(KEY, "purpose", *parts) != derived(KEY, "purpose", *parts, more.replace("\0", ""))
    assert derived(KEY, "purpose", *parts) != derived("f" * 64, "purpose", *parts)


def test_different_lists_of_parts_give_different_secrets():
    with pytest.raises(ValueError, match="NUL"):
        derived(KEY, "purpose", "a\0b")
