"""The simulator's rules and behaviours, without a server."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bisnesctl.settings import Settings
from services.connectors.meta import connector as outgoing
from services.connectors.meta.connector import MetaConnector
from services.connectors.meta.translation import incoming
from services.connectors.meta.translation.errors import TABLE, classify
from services.message import Bot, Outgoing, Secret, Sent
from services.sandbox.meta.behaviour import Behaviour, Behaviours
from services.sandbox.meta.errors import ERRORS
from services.sandbox.meta.graph import Message, check_token, new_id, read_message, success
from services.sandbox.meta.request_fields import GraphError
from services.sandbox.meta.webhooks import status_updates, webhook_body

META = MetaConnector(Settings(meta_graph_url="http://127.0.0.1:1"))
BOT = Bot(1, "0128", 0, "meta", "meta_direct", "1055", Secret("t"))
METADATA = {"display_phone_number": "15550100001", "phone_number_id": "1055"}
UUID = "0190c0de-0000-7000-8000-000000000000"
GOOD = {
    "messaging_product": "whatsapp",
    "to": "+60123456789",
    "type": "text",
    "text": {"body": "Hello"},
    "biz_opaque_callback_data": "mine",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(**changes):
    return read_message(orjson.dumps({name: value for name, value in (GOOD | changes).items() if value != "missing"}))


def test_a_valid_request_is_parsed():
    assert read() == Message("+60123456789", "60123456789", "Hello", "mine")


@pytest.mark.parametrize("given", ["+1 (555) 010-9999", "15550109999", "1 555 010 9999", "+15550109999"])
def test_a_recipient_is_an_international_number_with_or_without_a_plus(given):
    assert read(to=given).recipient == "15550109999"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"messaging_product": "missing"}, 100),
        ({"messaging_product": "sms"}, 100),
        ({"recipient_type": "crowd"}, 131009),
        ({"to": "missing"}, 131008),
        ({"to": ""}, 131008),
        ({"to": 60123456789}, 131009),
        ({"to": "Ana"}, 131009),
        ({"to": "+12"}, 131009),
        ({"to": "123-456@g.us"}, 131009),
        ({"type": "pigeon"}, 100),
        ({"type": ["text"]}, 100),
        ({"type": "image"}, 131008),
        ({"text": "missing"}, 131008),
        ({"text": "Hello"}, 131009),
        ({"text": {}}, 131008),
        ({"text": {"body": ""}}, 131008),
        ({"text": {"body": 5}}, 131009),
        ({"text": {"body": "x" * 4097}}, 100),
        ({"text": {"body": "x", "preview_url": "yes"}}, 131009),
        ({"biz_opaque_callback_data": "x" * 513}, 131009),
        ({"context": {"message_id": ""}}, 131009),
        ({"context": "wamid.1"}, 131009),
    ],
)
def test_an_invalid_request_is_refused_with_the_documented_code(changes, code):
    with pytest.raises(GraphError) as refused:
        read(**changes)
    assert (refused.value.code, refused.value.http) == (code, 400)


@given(st.binary(max_size=40) | json_values.map(orjson.dumps))
def test_any_body_is_accepted_or_refused_with_a_graph_error(body):
    with pytest.raises(GraphError):
        read_message(body)


@given(st.sampled_from([*GOOD, "context", "recipient_type"]), json_values)
def test_any_field_is_accepted_or_refused_with_a_graph_error(name, odd):
    try:
        assert read(**{name: odd}).recipient.isdigit()
    except GraphError as refused:
        assert refused.envelope()["error"]["code"] == refused.code


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=200), st.integers(10**6, 10**14))
def test_the_simulator_accepts_the_connectors_request_and_the_connector_parses_the_answer(text, number):
    message = Outgoing(1, UUID, 1, str(number), "text", {"message": text, "quoted_provider_id": "wamid.0"}, 0)
    taken = read_message(META.request(BOT, message).body)
    assert taken == Message(f"+{number}", str(number), text, UUID, "text", "wamid.0")
    wamid = new_id()
    assert META.outcome(message, 200, orjson.dumps(success(taken, wamid))) == Sent(wamid)


MEDIA = {"media": {"link": "https://example.com/file"}}


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("image", MEDIA | {"caption": "c"}),
        ("video", MEDIA | {"caption": "c", "quoted_provider_id": "wamid.0"}),
        ("audio", MEDIA | {"voice": True}),
        ("document", MEDIA | {"caption": "c", "filename": "bill.pdf"}),
        ("sticker", MEDIA),
        ("template", {"templateName": "order_update", "language": "en", "variables": ["Ana", "17"]}),
        ("reaction", {"reaction": "👍", "targetMessageId": "x", "target_provider_id": "wamid.0"}),
        ("reaction", {"reaction": "", "targetMessageId": "x", "target_provider_id": "wamid.0"}),
        ("read", {"targetMessageId": "x", "target_provider_id": "wamid.0", "typing": True}),
    ],
)
@pytest.mark.parametrize("chat", ["60123456789", "US.13491208655302741918"])
def test_the_simulator_accepts_every_kind_that_the_connector_sends(kind, payload, chat):
    message = Outgoing(1, UUID, 1, chat, kind, payload, 0)
    taken = read_message(outgoing.body(message, payload.get("media")))
    assert taken.kind == kind
    assert (taken.recipient, taken.callback_data) == (("", None) if kind == "read" else (chat, UUID))


@pytest.mark.parametrize("code", sorted(TABLE))
def test_the_connector_understands_every_error_of_the_simulator(code):
    error = GraphError(code, "because")
    message = Outgoing(1, UUID, 1, "60123456789", "text", {"message": "Hello"}, 0)
    outcome = META.outcome(message, error.http, orjson.dumps(error.envelope()))
    assert outcome == classify(code, f"(#{code}) {ERRORS[code].title}: because")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer expired-in-may"])
def test_a_missing_or_expired_token_is_refused(header):
    with pytest.raises(GraphError) as refused:
        check_token(header)
    assert (refused.value.code, refused.value.http) == (190, 401)


def test_any_other_token_is_accepted():
    check_token("Bearer x")


def say(text, recipient="60123456789"):
    return Message(f"+{recipient}", recipient, text, "mine")


def test_a_rule_applies_to_matching_texts_as_often_as_it_says():
    behaviours = Behaviours()
    behaviours.rules.add(Behaviour(match="odd", times=2, error_code=131000))
    behaviours.rules.add(Behaviour(to="1555", delay_ms=9))
    assert [behaviours.use_for(say(text)).error_code for text in ("even", "odd", "odd 2", "odd 3")] == [
        None, 131000, 131000, None,
    ]  # fmt: skip
    assert behaviours.use_for(say("even", "1555")).delay_ms == 9
    assert behaviours.rules.all() == [Behaviour(to="1555", delay_ms=9)]
    behaviours.clear()
    assert behaviours.rules.all() == []


def codes(behaviours, rule, pairs):
    found = []
    for number, recipient in pairs:
        try:
            behaviours.check(rule, number, recipient)
            found.append(200)
        except GraphError as refused:
            found.append(refused.code)
    return found


def test_rules_can_limit_the_rate_of_a_pair_and_of_a_number():
    pair = Behaviour(pair_rate_limit=2)
    assert codes(Behaviours(), pair, [("1", "a")] * 3 + [("1", "b"), ("2", "a")]) == [200, 200, 131056, 200, 200]
    number = Behaviour(number_rate_limit=2)
    assert codes(Behaviours(), number, [("1", "a"), ("1", "b"), ("1", "c"), ("2", "a")]) == [200, 200, 130429, 200]


@pytest.mark.parametrize("wrong", [{"delay": 5}, {"times": 0}, {"cut": "both"}, {"statuses": ["lost"]}])
def test_an_invalid_rule_is_refused(wrong):
    with pytest.raises(ValidationError):
        Behaviour(**wrong)


def test_the_connector_parses_the_statuses_of_the_simulator():
    rule = Behaviour(statuses=["sent", "failed"], failed_code=131049, webhook_delay_ms=1000)
    message = Message("+60123456789", "60123456789", "Hello", UUID)
    found = [
        each._asdict() | {"account": "1", "metadata": METADATA}
        for each in status_updates(message, "wamid.1", "1055", rule, 1790000000.0)
    ]
    updates = incoming.parse(webhook_body(found))
    assert [(u.provider_id, u.status.value, u.at, u.message_id, u.error_code) for u in updates] == [
        ("wamid.1", "sent", 1790000001.0, UUID, None),
        ("wamid.1", "failed", 1790000002.0, UUID, "131049"),
    ]
