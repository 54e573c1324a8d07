"""The Meta connector: requests out, answers in."""

from dataclasses import replace
from typing import Unpack

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.settings import Settings
from services.connector import Again, Preparation, Unsupported
from services.connectors import limits
from services.connectors.meta.connector import MetaConnector
from services.message import Bot, Held, Outgoing, Payload, Rejected, Retry, Secret, Sent, Unavailable, Unknown

META = MetaConnector(Settings(meta_graph_url="https://graph.example/", dialog360_url="https://hub.example/"))
BOT = Bot(1, "0128", 0, "meta", "meta_direct", "1055", Secret("EAAtoken"))
UUID = "0190c0de-0000-7000-8000-000000000000"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def message(kind="text", /, **payload: Unpack[Payload]):
    return Outgoing(1, UUID, 1, "60123456789", kind, payload, 0)


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


def test_a_360dialog_request_has_the_key_and_no_number():
    request = META.request(replace(BOT, connection_type="360dialog", phone_number_id=""), message(message="Hi"))
    assert request.url == "https://hub.example/messages"
    assert set(request.headers) == {"D360-API-KEY: EAAtoken", "Content-Type: application/json"}


def test_a_link_is_sent_as_it_is():
    fields = orjson.loads(META.request(BOT, message("image", media={"link": "https://x.example/a.jpg"})).body)
    assert fields["image"] == {"link": "https://x.example/a.jpg"}


@pytest.mark.parametrize(("kind", "payload"), [("hologram", {}), ("text", {}), ("image", {"media": {}}), ("read", {})])
def test_a_message_that_this_version_does_not_know_is_refused_without_a_preparation(kind, payload):
    refused = META.request(BOT, message(kind, **payload))
    assert isinstance(refused, Rejected)
    assert kind in refused.reason


def test_no_request_shows_the_credential():
    assert "EAAtoken" not in repr(META.request(BOT, message(message="Hi")))
    assert "EAAtoken" not in repr(META.request(BOT, message("image", media={"key": "k", "mimeType": "image/png"})))


def test_messages_that_meta_cannot_send_are_refused():
    with pytest.raises(Unsupported, match="WhatsApp Web bot"):
        limits.check_meta("text", "123-456@g.us", {"message": "Hi"})


@pytest.mark.parametrize(
    ("kind", "answer", "outcome"),
    [
        ("read", {"success": True}, Sent()),
        ("read", {"success": False}, None),
        ("read", {"messages": [{"id": "wamid.1"}]}, None),
        ("text", {"success": True}, None),
        ("reaction", {"messages": [{"id": "wamid.1"}]}, Sent("wamid.1")),
    ],
)
def test_a_read_receipt_has_no_id(kind, answer, outcome):
    found = META.outcome(message(kind), 200, orjson.dumps(answer))
    assert found == outcome if outcome else isinstance(found, Unknown)


def test_only_a_link_that_meta_cannot_fetch_is_tried_another_way():
    refused = orjson.dumps(envelope(131053))
    linked = message("image", media={"link": "https://x.example/b.jpg"})
    assert META.outcome(linked, 400, orjson.dumps(envelope(100))).code == "100"
    assert META.outcome(linked, 400, refused) == Again()
    assert isinstance(META.request(BOT, linked), Preparation)
    template = message("template", templateName="a", language="en")
    assert META.outcome(template, 400, refused).code == "131053"


def envelope(code, **more):
    return {"error": {"message": "no", "type": "OAuthException", "code": code, "fbtrace_id": "A"} | more}


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (200, {"messages": [{"id": "wamid.1"}]}, Sent),
        (200, {"messages": []}, Unknown),
        (200, {"messages": [{"id": 5}]}, Unknown),
        (200, {"success": True}, Unknown),
        (200, [1], Unknown),
        (200, envelope(131047), Rejected),
        (400, envelope(130429), Retry),
        (401, envelope(190), Held),
        (500, envelope(131000, error_data="a string"), Unavailable),
        (500, envelope(131057), Unavailable),
        (503, {"error": "upstream"}, Unavailable),
        (502, {}, Unknown),
        (404, {"detail": "nothing here"}, Unavailable),
        (302, {}, Unavailable),
    ],
)
def test_answers_are_classified_by_their_error_code(status, answer, kind):
    assert isinstance(META.outcome(message(), status, orjson.dumps(answer)), kind)


@pytest.mark.parametrize(
    ("status", "kind"), [(200, Unknown), (502, Unknown), (504, Unknown), (413, Unavailable), (503, Unavailable)]
)
def test_a_gateways_page_is_no_answer(status, kind):
    outcome = META.outcome(message(), status, b"<html>\x00\xff</html>")
    assert isinstance(outcome, kind)
    assert str(status) in outcome.reason
    assert "\0" not in outcome.reason


@pytest.mark.parametrize(("outage", "asks"), [
    ("network", False), ("131000", False), ("upload", False), ("http_502", True), ("no_answer", True),
])  # fmt: skip
def test_the_provider_is_probed_if_a_message_could_be_lost(outage, asks):
    assert isinstance(META.probe(BOT, outage), Preparation) is asks


def test_a_provider_that_does_not_answer_the_probe_is_still_unavailable():
    nowhere = MetaConnector(Settings(meta_graph_url="http://127.0.0.1:1"))
    outcome = nowhere.probe(BOT, "http_502").run()
    assert (type(outcome), outcome.code, outcome.chargeable) == (Unavailable, "network", False)


@given(st.integers(100, 599), st.binary(max_size=60) | json_values.map(orjson.dumps))
def test_every_answer_has_an_outcome_and_only_a_200_with_an_id_is_sent(status, body):
    assert not isinstance(META.outcome(message(), status, body), Sent)
