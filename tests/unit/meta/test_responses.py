"""The meaning of answers of Meta and 360dialog, beside the codes of the error table."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.meta.translation.errors import refusal
from services.message import Held, Rejected, Retry, Scope, Unavailable

TOKEN = "EAAGm0PX4ZCpsBAKtokentokentoken"


def answered(status, **fields):
    return refusal(status, orjson.dumps(fields))


def in_words(words, status=400):
    return answered(status, meta={"success": False, "http_code": status, "developer_message": words})


@pytest.mark.parametrize(
    ("meta", "code", "says"),
    [
        ({"httpCode": 401, "developerMessage": "Invalid API key"}, "360dialog_401", "enter a new API key"),
        ({"http_code": 401, "developer_message": "Invalid API key"}, "360dialog_401", "enter a new API key"),
        ({"httpCode": 403, "developerMessage": "Forbidden"}, "360dialog_403", "DIALOG360_URL"),
        ({"httpCode": 400, "developerMessage": "Your account is disabled"}, "360dialog_400", "360dialog Hub"),
        ({"httpCode": 400, "developerMessage": "The last invoice is unpaid"}, "360dialog_400", "360dialog Hub"),
        ({"success": False}, "360dialog_401", "enter a new API key"),
    ],
)
def test_a_360dialog_error_for_an_operator_holds_the_number(meta, code, says):
    outcome = answered(401, meta=meta)
    assert isinstance(outcome, Held)
    assert outcome.code == code
    assert says in outcome.reason


@pytest.mark.parametrize("words", ["Too many requests", "Rate limit hit", "request limit of the day", "throttled"])
def test_360dialogs_rate_limit_slows_the_number(words):
    for outcome in (in_words(words), in_words("Slow down", 429)):
        assert isinstance(outcome, Retry)
        assert (outcome.scope, outcome.slower) == (Scope.BOT, True)
        assert outcome.after is not None
        assert 1 <= outcome.after <= 60


def test_other_360dialog_refusals_reject_the_message():
    assert in_words("Invalid recipient") == Rejected("360dialog_400", "Invalid recipient")


def test_360dialog_also_answers_in_metas_form():
    assert answered(400, error={"code": 131047, "message": "late"}).code == "131047"


@pytest.mark.parametrize("status", [500, 503, 302])
def test_a_360dialog_server_error_leaves_the_outcome_open(status):
    assert answered(200, meta={"httpCode": status, "developerMessage": "x"}) is None


def test_a_gateways_429_slows_the_number():
    assert refusal(429, b"slow down").slower


@pytest.mark.parametrize("status", [200, 500, 502, 504])
def test_a_gateways_error_page_leaves_the_outcome_open(status):
    assert refusal(status, b"<html>") is None


@pytest.mark.parametrize("status", [302, 404, 405])
def test_another_servers_page_is_an_outage_or_one_messages_fault(status):
    outcome = refusal(status, b"<html>\0\xff")
    assert isinstance(outcome, Unavailable)
    assert (outcome.code, outcome.chargeable) == (f"http_{status}", True)
    assert "META_GRAPH_URL" in outcome.reason
    assert "\0" not in outcome.reason


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"error": {"code": 190, "message": f"Malformed access token {TOKEN}"}}),
        (401, {"meta": {"developerMessage": f"unknown key {TOKEN}"}}),
        (404, {"token": TOKEN}),
        (429, {"token": TOKEN}),
    ],
)
def test_no_answer_shows_the_credential(status, body):
    assert TOKEN not in repr(refusal(status, orjson.dumps(body)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.integers(100, 599),
    st.binary(max_size=60)
    | json_values.map(orjson.dumps)
    | st.fixed_dictionaries({}, optional={"error": json_values, "meta": json_values}).map(orjson.dumps)
    | st.fixed_dictionaries(
        {"meta": st.dictionaries(st.sampled_from(["httpCode", "developerMessage", "http_code"]), json_values)}
    ).map(orjson.dumps),
)
def test_every_answer_is_a_refusal_with_words_or_says_nothing(status, body):
    outcome = refusal(status, body)
    assert outcome is None or (outcome.code and outcome.reason and "\0" not in outcome.reason)
