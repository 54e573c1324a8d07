"""The signature of Meta's webhooks."""

from hypothesis import given
from hypothesis import strategies as st

from services.connectors.meta.receiver import sign, verify_signature


def test_a_signature_made_elsewhere_is_the_same():
    # echo -n '{}' | openssl dgst -sha256 -hmac secret
    known = "sha256=77325902caca812dc259733aacd046b73817372c777b8d95b402647474516e13"
    assert sign("secret", b"{}") == known


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40), st.binary(max_size=200))
def test_a_signed_body_verifies(secret, body):
    assert verify_signature(secret, body, sign(secret, body))


@given(st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=80) | st.none())
def test_a_wrong_signature_does_not_verify(body, other, header):
    assert verify_signature("secret", body, sign("secret", other)) == (body == other)
    assert not verify_signature("secret", body, sign("secrets", body))
    assert not verify_signature("secret", body, header)


def test_without_a_secret_nothing_is_signed():
    assert not verify_signature("", b"{}", sign("", b"{}"))
