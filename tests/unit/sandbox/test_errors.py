"""The simulator's errors and the connector's are written independently; here they are compared."""

import pytest

from services.connectors.meta.translation.errors import TABLE, classify
from services.message import Held, Rejected, Retry, Unavailable
from services.sandbox.meta.errors import ERRORS

#: Errors of registering a number and of blocking users, which no message ever meets.
OF_MANAGEMENT = {133000, 133005, 133006, 133008, 133009, 133015, 133016, 139100, 139101}


def test_both_sides_know_the_same_codes():
    assert set(ERRORS) - OF_MANAGEMENT == set(TABLE)


@pytest.mark.parametrize("code", sorted(set(ERRORS) - OF_MANAGEMENT))
def test_the_http_status_fits_what_the_connector_does(code):
    """Authorization errors wait for an operator, a busy server is tried again, the rest is decided by the code."""
    outcome, http = classify(code, ""), ERRORS[code].http
    if http == 401:
        assert isinstance(outcome, Held)
    if http == 403:
        assert isinstance(outcome, Held | Rejected)
    if http == 404:
        assert isinstance(outcome, Rejected)
    if http == 503:
        assert isinstance(outcome, Retry | Unavailable)
    assert not (isinstance(outcome, Rejected) and http >= 500)
