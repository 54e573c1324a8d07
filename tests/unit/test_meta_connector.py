"""The Meta connector: requests out, answers and webhooks in."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.base import Unsupported
from services.connectors.meta.connector import MetaConnector
from services.message import Bot, Held, Outgoing, Rejected, Retry, Secret, Sent, Unknown

META = MetaConnector("https://graph.example", "v26.0")
BOT = Bot(1, "0128", 0, "meta", "meta_direct", "1055", Secret("EAAtoken"))
UUID = "0190c0de-0000-7000-8000-000000000000"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def message(**payload):
    return Outgoing(1, UUID, 1, "60123456789", "text", payload, 0)


def webhook(*statuses):
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "1055"}, "statuses": list(statuses)}
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}],
    }


def parse(value):
    return META.parse(orjson.dumps(value))


def test_a_text_becomes_the_documented_request():
    request = META.request(BOT, message(message="Grüße 👋"))
    assert request.url == "https://graph.example/v26.0/1055/messages"
    assert set(request.headers) == {"Authorization: Bearer EAAtoken", "Content-Type: application/json"}
    assert orjson.loads(request.body) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+60123456789",
        "type": "text",
        "text": {"body": "Grüße 👋", "preview_url": True},
        "biz_opaque_callback_data": UUID,
    }


def test_a_reply_names_the_message_that_it_answers():
    request = META.request(BOT, message(message="yes", quotedMessageId="x", quoted_provider_id="wamid.7"))
    assert orjson.loads(request.body)["context"] == {"message_id": "wamid.7"}


@pytest.mark.parametrize(
    "kind, chat, text, says",
    [
        ("image", "60123456789", "hi", "send a text"),
        ("text", "123-456@g.us", "hi", "WhatsApp Web bot"),
        ("text", "987654@lid", "hi", "phone number"),
        ("text", "60123456789", "x" * 4097, "split"),
    ],
)
def test_what_meta_cannot_do_is_refused_with_a_way_out(kind, chat, text, says):
    with pytest.raises(Unsupported, match=says):
        META.check(kind, chat, {"message": text})


def test_the_longest_text_passes():
    META.check("text", "60123456789", {"message": "é" * 4096})


def envelope(code, **more):
    return {"error": {"message": "no", "type": "OAuthException", "code": code, "fbtrace_id": "A"} | more}


@pytest.mark.parametrize(
    "status, answer, kind",
    [
        (200, {"messages": [{"id": "wamid.1"}]}, Sent),
        (200, {"messages": []}, Unknown),
        (200, {"messages": [{"id": 5}]}, Unknown),
        (200, {"success": True}, Unknown),
        (200, [1], Unknown),
        (200, envelope(131047), Rejected),
        (400, envelope(130429), Retry),
        (401, envelope(190), Held),
        (500, envelope(131000, error_data="a string"), Retry),
        (500, envelope(131057), Retry),
        (503, {"error": "upstream"}, Unknown),
        (502, {}, Unknown),
        (404, {"detail": "nothing here"}, Held),
        (302, {}, Held),
    ],
)
def test_answers_are_told_apart_by_their_error_code(status, answer, kind):
    assert isinstance(META.outcome(message(), status, orjson.dumps(answer)), kind)


@pytest.mark.parametrize("status, kind", [(200, Unknown), (502, Unknown), (504, Unknown), (413, Held)])
def test_a_gateways_page_is_no_answer(status, kind):
    outcome = META.outcome(message(), status, b"<html>\x00\xff</html>")
    assert isinstance(outcome, kind)
    assert str(status) in outcome.reason
    assert "\0" not in outcome.reason


@given(st.integers(100, 599), st.binary(max_size=60) | json_values.map(orjson.dumps))
def test_every_answer_has_an_outcome_and_only_a_200_with_an_id_is_sent(status, body):
    assert not isinstance(META.outcome(message(), status, body), Sent)
