"""Answers of providers to management calls, and the errors that they become."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.bots.graph_api import CredentialRefused, ProviderError, ProviderRefused, ProviderUnavailable, read_answer
from bisnesctl.errors import ExitCode


def graph(code, status=400, **more):
    return status, {"error": {"message": "Because", "code": code, **more}}


def dialog360(status, text="Because", snake=False):
    if snake:
        return status, {"meta": {"success": False, "http_code": status, "developer_message": text}}
    return status, {"meta": {"success": False, "httpCode": status, "developerMessage": text}}


@pytest.mark.parametrize(
    ("answer", "kind", "code", "advice"),
    [
        (graph(190, 401), CredentialRefused, "190", "new access token"),
        (graph(0, 401), CredentialRefused, "0", "new access token"),
        (graph("190", 401), CredentialRefused, "190", "new access token"),
        (graph(100, error_subcode=33), ProviderRefused, "100", "check the ids"),
        (graph(100, error_subcode=36007), ProviderRefused, "100", "30 seconds"),
        (graph(200, 403), ProviderRefused, "200", "whatsapp_business_management"),
        (graph(133005), ProviderRefused, "133005", "PIN"),
        (graph(2, 503), ProviderUnavailable, "2", "again"),
        (graph(80007), ProviderUnavailable, "80007", "again"),
        (graph(999999, 500), ProviderUnavailable, "999999", ""),
        (graph(999999), ProviderRefused, "999999", ""),
        (dialog360(401), CredentialRefused, "360dialog_401", "API key"),
        (dialog360(401, snake=True), CredentialRefused, "360dialog_401", "API key"),
        (dialog360(403), ProviderRefused, "360dialog_403", "DIALOG360_URL"),
        (dialog360(429), ProviderUnavailable, "360dialog_429", "again"),
        (dialog360(500), ProviderUnavailable, "360dialog_500", ""),
        ((502, None), ProviderUnavailable, "http_502", "META_GRAPH_URL"),
        ((200, [1]), ProviderUnavailable, "http_200", "META_GRAPH_URL"),
        ((401, {}), CredentialRefused, "http_401", ""),
        ((404, {}), ProviderRefused, "http_404", ""),
    ],
)
def test_an_error_has_a_kind_a_code_and_an_advice(answer, kind, code, advice):
    with pytest.raises(ProviderError) as raised:
        read_answer("Meta", *answer)
    assert (type(raised.value), raised.value.code) == (kind, code)
    assert advice in raised.value.advice
    assert raised.value.exit_code is (ExitCode.UNAVAILABLE if kind is ProviderUnavailable else ExitCode.USAGE)


def test_an_error_message_is_kept_without_its_secrets():
    body = {"error": {"message": "Malformed access token EAAG-x", "code": 190, "error_data": {"details": "EAAG-x!"}}}
    with pytest.raises(CredentialRefused, match="Malformed access token …: …! ") as raised:
        read_answer("Meta", 401, body, lambda text: text.replace("EAAG-x", "…"))
    assert "EAAG" not in str(raised.value)


def test_an_answer_without_an_error_is_the_answer():
    assert read_answer("Meta", 200, {"success": True}) == {"success": True}
    assert read_answer("360dialog", 200, {"meta": {"success": True}, "url": "u"})["url"] == "u"


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
fields = st.sampled_from(["error", "meta", "code", "message", "error_data", "details", "http_code", "httpCode"])


@given(st.integers(100, 599), json | st.dictionaries(fields, json | st.dictionaries(fields, json)))
def test_any_answer_is_returned_or_raises_a_provider_error(status, body):
    try:
        assert read_answer("Meta", status, body) is body
    except ProviderError as error:
        assert str(error)
