import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.encryption import EncryptionError, NoCredential, decrypt, derived, encrypt, encrypt_shared

KEY = "0123456789abcdef" * 4


ROW = "webhook:1"


@given(st.text())
def test_decrypting_returns_the_encrypted_text(text):
    stored = encrypt(KEY, text, ROW)
    assert decrypt(KEY, stored, ROW) == text
    assert stored != encrypt(KEY, text, ROW)


@given(st.text())
def test_a_secret_is_useless_in_another_row(text):
    stored = encrypt(KEY, text, ROW)
    for other in ("webhook:2", "webhook:11", ""):
        with pytest.raises(EncryptionError):
            decrypt(KEY, stored, other)


@given(st.text())
def test_the_former_server_can_read_what_it_shares(text):
    iv, tag, ciphertext = (bytes.fromhex(part) for part in encrypt_shared(KEY, text).split(":"))
    assert AESGCM(bytes.fromhex(KEY)).decrypt(iv, ciphertext + tag, None).decode() == text


def test_what_was_stored_with_an_earlier_version_can_be_read_in_its_row():
    nonce = bytes(range(12))
    sealed = AESGCM(bytes.fromhex(KEY)).encrypt(nonce, b"secret", None)
    stored = "v1:" + base64.b64encode(nonce + sealed).decode()
    assert decrypt(KEY, stored, ROW) == decrypt(KEY, stored) == "secret"


def test_a_key_before_the_current_one_decrypts_as_well():
    stored = encrypt(KEY, "secret", ROW)
    assert decrypt(("f" * 64, KEY), stored, ROW) == "secret"
    with pytest.raises(EncryptionError, match="ENCRYPTION_KEY"):
        decrypt(("f" * 64, "e" * 64), stored, ROW)


@pytest.mark.parametrize("stored", [None, ""])
def test_a_missing_credential_is_not_called_a_wrong_key(stored):
    with pytest.raises(NoCredential) as raised:
        decrypt(KEY, stored)
    assert "ENCRYPTION_KEY" not in str(raised.value)


def test_the_format_of_the_old_system_can_be_decrypted():
    key, nonce = bytes.fromhex(KEY), bytes(range(12))
    sealed = AESGCM(key).encrypt(nonce, b"EAAG-old", None)
    assert decrypt(KEY, f"{nonce.hex()}:{sealed[-16:].hex()}:{sealed[:-16].hex()}") == "EAAG-old"


@given(st.text(min_size=1, max_size=80))
def test_any_other_format_raises_an_encryption_error(text):
    with pytest.raises(EncryptionError, match="ENCRYPTION_KEY"):
        decrypt(KEY, text)


def test_another_key_or_a_changed_text_is_refused():
    stored = encrypt(KEY, "token", "")
    with pytest.raises(EncryptionError, match="ENCRYPTION_KEY"):
        decrypt("f" * 64, stored)
    with pytest.raises(EncryptionError):
        decrypt(KEY, stored[:-6] + "AAAA==")


@pytest.mark.parametrize("key", ["", "short", "g" * 64, "é" * 32])
def test_the_error_for_an_invalid_key_names_the_valid_formats(key):
    with pytest.raises(EncryptionError, match="64 hex digits or 32 characters"):
        encrypt(key, "token", ROW)


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
