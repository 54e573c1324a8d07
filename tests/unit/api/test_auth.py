"""API keys as they are presented, and whom they speak for."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.auth import Principal, company_of, key_digest, principal_of
from services.http_server.errors import ApiError
from services.runtime.account_cache import Key

keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
headers = st.none() | st.text(st.characters(max_codepoint=255), max_size=60)


@given(keys, st.sampled_from(["Bearer", "bearer", "BEARER"]), st.text(" ", min_size=1, max_size=3))
def test_both_headers_carry_the_same_key(key, scheme, space):
    expected = hashlib.sha256(key.encode()).digest()
    assert key_digest(key, None) == key_digest(None, f"{scheme}{space}{key}") == expected


@given(headers, headers)
def test_any_headers_contain_a_key_or_none(api_key, authorization):
    try:
        digest = key_digest(api_key, authorization)
    except ApiError as error:
        assert (error.status, error.code) == (401, "no_key")
    else:
        assert len(digest) == 32


def test_an_unknown_key_speaks_for_nobody():
    with pytest.raises(ApiError, match="unknown or was revoked"):
        principal_of(None)


@given(st.text(), st.text())
def test_a_company_sees_itself_alone(own, other):
    principal = principal_of(Key(1, own))
    principal.require_company(own)
    if own != other:
        with pytest.raises(ApiError) as raised:
            principal.require_company(other)
        assert (raised.value.status, raised.value.code) == (403, "foreign_company")
    with pytest.raises(ApiError):
        principal.require_operator()


@given(st.text())
def test_an_operator_sees_every_company(company):
    operator = Principal(None)
    operator.require_company(company)
    operator.require_operator()


@given(st.text(), st.text())
def test_a_request_is_about_the_keys_company_or_the_one_that_an_operator_names(own, other):
    assert company_of(Principal(own), None) == company_of(Principal(own), own) == own
    assert company_of(Principal(None), other) == other
    if own != other:
        with pytest.raises(ApiError) as raised:
            company_of(Principal(own), other)
        assert raised.value.status == 403
    with pytest.raises(ApiError) as raised:
        company_of(Principal(None), None)
    assert (raised.value.status, raised.value.code) == (400, "invalid_request")
