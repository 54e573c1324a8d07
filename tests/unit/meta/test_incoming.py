"""Reading Meta's webhooks: every documented payload, and any other input."""

import contextlib
import json
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.meta.translation.incoming import parse as parse_body
from services.message import Edit, Incoming, Media, Notice, Peer, Reaction, Renaming, Revocation, Status, StatusUpdate
from tests.support.meta_payloads import AINA, ALL, MESSAGES, VALUES, message, places, replaced, value, webhook

UUID = "0190c0de-0000-7000-8000-000000000001"
AT = 1790000000.0
PERSON, FULL = Peer(AINA, None, "Aina"), Peer(AINA, "US.1", "A")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def parse(found):
    return parse_body(json.dumps(found).encode())


def statuses(*found):
    return webhook(value(statuses=list(found)))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "Hello"),
        ("image", "Look"),
        ("video", None),
        ("document", "The offer"),
        ("location", "Office, Jalan 1"),
        ("contacts", "Siti"),
        ("button", "Yes"),
        ("button_reply", "Confirm"),
        ("list_reply", "Monday"),
        ("nfm_reply", "Sent"),
        ("order", "Two please"),
        ("unsupported", "Message type unknown: not supported"),
        ("request_welcome", None),
        ("hologram", None),
    ],
)
def test_each_kind_has_a_readable_text_and_keeps_the_rest(kind, words):
    (update,) = parse(webhook(value(MESSAGES[kind])))
    assert isinstance(update, Incoming)
    assert (update.number, update.sender, update.at, update.text) == ("1055", PERSON, AT, words)
    assert (update.kind, update.provider_id) == (MESSAGES[kind]["type"], MESSAGES[kind]["id"])
    assert update.content == MESSAGES[kind]
    assert not update.from_me


@pytest.mark.parametrize(
    ("kind", "media"),
    [
        ("image", Media("4490", "image/jpeg", "c2hhMjU2")),
        ("audio", Media("4490", "audio/ogg; codecs=opus", "c2hhMjU2", voice=True)),
        ("document", Media("4490", "application/pdf", "c2hhMjU2", "offer.pdf")),
        ("sticker", Media("4490", "image/webp", "c2hhMjU2", animated=True)),
        ("text", None),
    ],
)
def test_a_file_has_all_its_known_properties(kind, media):
    (update,) = parse(webhook(value(MESSAGES[kind])))
    assert update.media == media


def test_reactions_edits_and_revocations_name_their_message():
    taken_back = message("reaction", {"message_id": "wamid.ours"})
    found = parse(webhook(value(MESSAGES["reaction"], taken_back, MESSAGES["edit"], MESSAGES["revoke"])))
    assert found == [
        Reaction("1055", "wamid.reaction", PERSON, "wamid.ours", "👍", AT),
        Reaction("1055", "wamid.reaction", PERSON, "wamid.ours", "", AT),
        Edit("1055", PERSON, "wamid.text", "Hi", AT),
        Revocation("1055", PERSON, "wamid.text", AT),
    ]


def test_an_answer_names_what_it_answers():
    (update,) = parse(webhook(value(MESSAGES["text"] | {"context": {"from": "603", "id": "wamid.ours"}})))
    assert update.quoted == "wamid.ours"


def test_a_message_from_the_business_phone_is_ours():
    echo = {"from": "60311112222", "to": AINA, "id": "wamid.e", "timestamp": "1790000000", "type": "text"}
    found = value(message_echoes=[echo | {"text": {"body": "Ours"}}])
    del found["messages"]
    (update,) = parse(webhook(found, field="smb_message_echoes"))
    assert (update.from_me, update.sender.chat_id, update.text) == (True, AINA, "Ours")


@pytest.mark.parametrize(
    ("sender", "contacts", "expected"),
    [
        ({"from": AINA}, None, Peer(AINA)),
        (
            {"from": f"+{AINA}"},
            [{"wa_id": AINA, "user_id": "US.1", "profile": {"name": "A"}}],
            Peer(AINA, "US.1", "A"),
        ),
        (
            {"from_user_id": "US.1"},
            [{"user_id": "US.1", "profile": {"username": "aina"}}],
            Peer(None, "US.1", "aina"),
        ),
        ({}, [{"wa_id": AINA, "profile": {"name": "A"}}], Peer(AINA, None, "A")),
        ({"from": AINA}, [{"wa_id": "60999", "profile": {"name": "Another"}}], Peer(AINA)),
    ],
)
def test_people_are_known_by_number_or_user_id_with_or_without_contacts(sender, contacts, expected):
    said = {name: inner for name, inner in MESSAGES["text"].items() if name != "from"} | sender
    (update,) = parse(webhook(value(said, contacts=contacts)))
    assert update.sender == expected


@pytest.mark.parametrize("field", VALUES)
def test_webhooks_that_are_not_about_messages_become_notices(field):
    event, said = VALUES[field]
    (notice,) = parse(webhook(said, field=field))
    assert isinstance(notice, Notice)
    assert (notice.event, notice.field, notice.number, notice.account, notice.value) == (event, field, None, "W1", said)


def test_errors_of_a_number_are_a_notice_beside_its_messages():
    found = parse(webhook(value(MESSAGES["text"], errors=[{"code": 130429}])))
    assert [type(update) for update in found] == [Incoming, Notice]
    assert (found[1].number, found[1].event) == ("1055", "provider.update")


def test_a_message_that_cannot_be_placed_is_kept_as_a_notice_and_loses_no_other():
    nobody = {"id": "wamid.x", "type": "text", "text": {"body": "?"}}
    found = parse(webhook(value(nobody, {"odd": 1}, MESSAGES["text"], contacts=[])))
    assert [type(update) for update in found] == [Notice, Notice, Incoming]
    assert found[0].value == nobody


@pytest.mark.parametrize("odd", [None, 5, "Hello", {}, {"body": 5}, ["body"]])
def test_a_text_without_words_is_kept_as_unsupported(odd):
    (update,) = parse(webhook(value(message("text", odd))))
    assert (update.kind, update.text, update.content["text"]) == ("unsupported", None, odd)


def test_everybody_in_a_large_batch_gets_their_own_name():
    people = [str(60_120_000_000 + n) for n in range(1000)]
    contacts = [{"wa_id": each, "profile": {"name": f"n{each}"}} for each in people]
    said = [message("text", {"body": "Hi"}, **{"from": each}) for each in people]
    found = parse(webhook(value(*said, contacts=contacts)))
    assert [update.sender for update in found] == [Peer(each, None, f"n{each}") for each in people]


def test_every_report_of_a_webhook_is_found_in_order():
    body = statuses(
        {"id": "wamid.1", "status": "sent", "timestamp": "1790000000", "biz_opaque_callback_data": UUID},
        {"id": "wamid.1", "status": "delivered", "timestamp": 1790000001500, "pricing": {"category": "service"}},
    )
    body["entry"].append(statuses({"id": "wamid.2", "status": "played", "timestamp": "1790000002"})["entry"][0])
    assert parse(body) == [
        StatusUpdate("wamid.1", Status.SENT, AT, UUID, number="1055"),
        StatusUpdate(
            "wamid.1", Status.DELIVERED, 1790000001.5, details={"pricing": {"category": "service"}}, number="1055"
        ),
        StatusUpdate("wamid.2", Status.READ, 1790000002.0, details={"played": True}, number="1055"),
    ]


def test_a_failure_brings_its_code_and_reason():
    error = {"code": 131047, "title": "Re-engagement", "error_data": {"details": "too late"}}
    failed = {"id": "wamid.1", "status": "failed", "timestamp": "1790000000", "errors": ["odd", error]}
    found = {"errors": ["odd", error]}
    assert parse(statuses(failed)) == [
        StatusUpdate("wamid.1", Status.FAILED, AT, None, "131047", "Re-engagement: too late", found, number="1055")
    ]
    assert parse(statuses(failed | {"errors": None}))[0].error == "Meta gave no reason"


def test_a_failure_says_whether_the_link_was_refused():
    failed = {"id": "wamid.1", "status": "failed", "timestamp": "1790000000"}
    assert parse(statuses(failed | {"errors": [{"code": 131053, "title": "x"}]}))[0].link_refused
    assert not parse(statuses(failed | {"errors": [{"code": 131047, "title": "x"}]}))[0].link_refused


def test_a_report_with_an_unknown_status_is_a_notice():
    good = {"id": "wamid.1", "status": "read", "timestamp": "1790000000", "biz_opaque_callback_data": "another app's"}
    odd = [None, 5, {}, {"id": "w", "status": "warning"}, {"id": "", "status": "read"}, {"id": "w", "status": ["read"]}]
    *notices, report = parse(statuses(*odd, good))
    assert [notice.value for notice in notices] == odd[3:]
    assert report == StatusUpdate("wamid.1", Status.READ, AT, number="1055")


@pytest.mark.parametrize("timestamp", [None, "soon", "nan", "inf", -1, 1e300, [], {}])
def test_an_invalid_timestamp_counts_as_now(timestamp):
    before = time.time()
    found = parse(statuses({"id": "wamid.1", "status": "sent", "timestamp": timestamp}))
    found += parse(webhook(value(MESSAGES["text"] | {"timestamp": timestamp})))
    assert all(before <= update.at <= time.time() for update in found)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"{}", b'{"object": "page", "entry": []}', b"[" * 100_000])
def test_a_body_that_is_not_a_whatsapp_webhook_raises_value_error(body):
    with pytest.raises(ValueError):
        parse_body(body)


def test_characters_that_postgresql_refuses_are_removed():
    odd = {"body": "a\0b\ud800c", "deep": json.loads("[" * 90 + "]" * 90), "many": 10**40, "\0": 1}
    (update,) = parse(webhook(value(message("text", odd))))
    assert update.text == "ab?c"
    kept = orjson.dumps(update.content).decode()  # which refuses halves of pairs and integers that are too large
    assert "\\u0000" not in kept


@given(st.binary(max_size=40) | json_values.map(json.dumps).map(str.encode))
def test_any_bytes_are_parsed_or_raise_value_error(body):
    with contextlib.suppress(ValueError):
        parse_body(body)


@given(st.sampled_from(places(ALL)), json_values)
def test_nothing_odd_inside_a_webhook_makes_parse_fail_or_costs_the_other_messages(path, odd):
    try:
        updates = parse(replaced(ALL, path, odd))
    except ValueError:
        assert len(path) < 2
        return
    for update in updates:
        orjson.dumps(getattr(update, "content", None) or getattr(update, "value", None))
    if len(path) > 7 and path[5] == "messages":  # inside one message of the value
        assert len([update for update in updates if not isinstance(update, Renaming)]) == len(MESSAGES) + 1
