"""Passwords and one-time codes."""

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.errors import UsageError
from bisnesctl.people import one_time_codes, passwords


def test_a_hash_is_of_its_password_alone_and_never_twice_the_same():
    first, second = passwords.hash_of("correct horse battery"), passwords.hash_of("correct horse battery")
    assert first != second
    assert passwords.verify("correct horse battery", first)
    assert not passwords.verify("correct horse batterY", first)
    assert "horse" not in first


def test_nobodys_hash_is_of_no_password_and_costs_the_same():
    assert not passwords.verify("", passwords.NOBODY)
    assert passwords.NOBODY.split("$")[:4] == passwords.hash_of("correct horse battery").split("$")[:4]


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaaaaaa", "xx-aisha-12345", "x" * 257])
def test_a_password_that_is_easy_to_guess_is_refused(password):
    with pytest.raises(UsageError):
        passwords.check(password, "aisha")


@given(st.integers(1_000, 4_000_000_000))
def test_a_code_is_accepted_in_its_own_period_and_in_the_ones_beside_it(now):
    secret = one_time_codes.new_secret()
    code, period = pyotp.TOTP(secret).at(now), now // one_time_codes.PERIOD_SECONDS
    for distance in (-1, 0, 1):
        assert one_time_codes.period_of(secret, code, now + distance * 30) == period
    assert one_time_codes.period_of(secret, f" {code[:3]} {code[3:]} ", now) == period


@pytest.mark.parametrize("code", ["", "12345", "abcdef", "١٢٣٤٥٦", "1234567"])
def test_what_is_no_code_is_refused(code):
    assert one_time_codes.period_of(one_time_codes.new_secret(), code) is None


def test_a_code_of_an_older_period_is_refused():
    secret = one_time_codes.new_secret()
    code = pyotp.TOTP(secret).at(1_000_000_000)
    assert one_time_codes.period_of(secret, code, 1_000_000_090) != 1_000_000_000 // 30
