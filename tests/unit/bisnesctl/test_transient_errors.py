"""Codes of temporary errors: the tool's list and the connector's table agree."""

import pytest

from bisnesctl.database.transient_errors import CODES, is_transient
from services.connectors.meta.translation.errors import TABLE
from services.message import Held, Rejected, Retry, Unavailable


@pytest.mark.parametrize("code", sorted(TABLE))
def test_temporary_codes_of_meta_may_be_retried(code):
    passes = isinstance(TABLE[code].outcome, Retry | Unavailable)
    assert isinstance(TABLE[code].outcome, Retry | Unavailable | Rejected | Held)
    assert is_transient(str(code), "said Meta") is passes


@pytest.mark.parametrize(("code", "error", "may"), [
    ("network", "Failed to connect", True),
    ("provider_unreachable", "it waited", True),
    ("999999", "odd (gave up after 3 attempts)", True),
    ("999999", "odd (gave up after 3 attempts) or not", False),
    ("131026", "not on WhatsApp", False),
    (None, None, False),
])  # fmt: skip
def test_a_message_that_failed_after_several_attempts_may_be_retried(code, error, may):
    assert is_transient(code, error) is may
    assert ("131026" in CODES) is False
