"""The simulator's rules for each kind of message, for templates, and for messages of customers."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.sandbox.database import Database
from services.sandbox.meta.accounts import template_parameters, templates
from services.sandbox.meta.accounts.templates import Template
from services.sandbox.meta.customers import chat_of, user_id_of
from services.sandbox.meta.graph import Message, read_message, success
from services.sandbox.meta.inbound import CustomerMessage, Notice, compose, notice_updates
from services.sandbox.meta.media import File
from services.sandbox.meta.message_kinds import READERS
from services.sandbox.meta.registry import Registry
from services.sandbox.meta.request_fields import GraphError
from services.sandbox.meta.schema import SCHEMA
from services.sandbox.meta.webhooks import webhook_body

LINK = "https://example.com/file"
METADATA = {"display_phone_number": "15550100001", "phone_number_id": "1055"}
REPLY = {"type": "reply", "reply": {"id": "y", "title": "Yes"}}
ROW = {"id": "1", "title": "One"}
GOOD: dict[str, Any] = {
    "image": {"link": LINK, "caption": "x" * 1024},
    "video": {"id": "990000000000000001"},
    "audio": {"link": LINK, "voice": True},
    "document": {"link": LINK, "caption": "c", "filename": "bill.pdf"},
    "sticker": {"id": "990000000000000001"},
    "location": {"latitude": "3.14", "longitude": 101.7, "name": "Office", "address": "1 Jalan"},
    "contacts": [{"name": {"formatted_name": "Ana B", "first_name": "Ana"}, "phones": [{"phone": "+60123"}]}],
    "reaction": {"message_id": "wamid.1", "emoji": "👍"},
    "template": {"name": "order_update", "language": {"code": "en"}},
    "interactive": {"type": "button", "body": {"text": "Shall we?"}, "action": {"buttons": [REPLY]}},
}
LIST = {"type": "list", "body": {"text": "b"}, "action": {"button": "Open", "sections": [{"rows": [ROW]}]}}


def read(kind, content, **fields):
    given = {"messaging_product": "whatsapp", "to": "+60123456789", "type": kind, kind: content} | fields
    return read_message(orjson.dumps({name: value for name, value in given.items() if value is not None}))


def changed(kind, **changes):
    return {name: value for name, value in (GOOD[kind] | changes).items() if value is not None}


@pytest.mark.parametrize("kind", GOOD)
def test_a_valid_message_of_each_kind_is_parsed(kind):
    assert read(kind, GOOD[kind]).kind == kind


def test_the_examples_cover_every_kind():
    assert {*GOOD, "text"} == set(READERS)


def test_each_kind_has_a_readable_text():
    assert [read(kind, GOOD[kind]).text for kind in ("document", "audio", "contacts", "reaction", "interactive")] == [
        "c", "", "Ana B", "👍", "Shall we?",
    ]  # fmt: skip
    assert read("location", GOOD["location"]).text == "Office, 1 Jalan, 3.14, 101.7"


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        ("image", None, 131008),
        ("image", {}, 131008),
        ("image", {"link": LINK, "id": "1"}, 131009),
        ("image", {"link": "ftp://example.com/x"}, 131009),
        ("image", {"link": "file.jpg"}, 131009),
        ("image", {"id": 7}, 131009),
        ("image", {"link": LINK, "caption": "x" * 1025}, 100),
        ("image", {"link": LINK, "filename": "x.jpg"}, 100),
        ("audio", {"link": LINK, "caption": "no"}, 100),
        ("audio", {"link": LINK, "voice": "yes"}, 131009),
        ("sticker", {"link": LINK, "caption": "no"}, 100),
        ("document", {"link": LINK, "filename": 3}, 131009),
        ("location", {"latitude": 3.1}, 131008),
        ("location", {"latitude": 91, "longitude": 0}, 131009),
        ("location", {"latitude": "north", "longitude": 0}, 131009),
        ("location", {"latitude": True, "longitude": 0}, 131009),
        ("contacts", [], 131008),
        ("contacts", [{"name": {}}], 131008),
        ("contacts", [{"name": {"formatted_name": "A"}, "phones": "+60"}], 131009),
        ("reaction", {"emoji": "👍"}, 131008),
        ("reaction", {"message_id": "wamid.1"}, 131008),
        ("reaction", {"message_id": "wamid.1", "emoji": "yes"}, 131009),
        ("template", {"name": "order_update"}, None),
        ("template", {"language": {"code": "en"}}, 131008),
        ("interactive", {"type": "dance", "body": {"text": "b"}}, 131009),
        ("interactive", {"type": "flow", "body": {"text": "b"}}, 131008),
        ("interactive", changed("interactive", body=None), 131008),
        ("interactive", changed("interactive", body={"text": "x" * 1025}), 100),
        ("interactive", changed("interactive", footer={"text": "x" * 61}), 100),
        ("interactive", changed("interactive", header={"type": "text", "text": "x" * 61}), 100),
        ("interactive", changed("interactive", header={"type": "sound"}), 131009),
        ("interactive", changed("interactive", header={"type": "image", "image": {}}), 131008),
        ("interactive", changed("interactive", action={"buttons": []}), 131008),
        ("interactive", changed("interactive", action={"buttons": [REPLY, REPLY]}), 131009),
        ("interactive", changed("interactive", action={"buttons": [REPLY] * 4}), 131009),
        ("interactive", LIST | {"action": {"button": "Open", "sections": [{"rows": [ROW, ROW]}]}}, 131009),
        ("interactive", LIST | {"action": {"button": "Open", "sections": [{"rows": [ROW]}] * 2}}, 131008),
        ("interactive", LIST | {"action": {"sections": [{"rows": [ROW]}]}}, 131008),
    ],
)
def test_an_invalid_object_is_refused_with_the_documented_code(kind, content, code):
    if code is None:
        assert read(kind, content).kind == kind
        return
    with pytest.raises(GraphError) as refused:
        read(kind, content)
    assert refused.value.code == code


def test_a_list_and_an_empty_reaction_are_accepted():
    assert read("interactive", LIST).text == "b"
    assert read("reaction", {"message_id": "wamid.1", "emoji": ""}).text == ""
    with pytest.raises(GraphError):
        read("reaction", GOOD["reaction"], context={"message_id": "wamid.2"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([(kind, name) for kind in GOOD if isinstance(GOOD[kind], dict) for name in GOOD[kind]]),
       json_values)  # fmt: skip
def test_any_value_in_an_object_is_accepted_or_refused_with_a_graph_error(place, odd):
    kind, name = place
    try:
        assert isinstance(read(kind, GOOD[kind] | {name: odd}).text, str)
    except GraphError as refused:
        assert refused.envelope()["error"]["code"] == refused.code


def test_a_read_mark_names_a_message():
    mark = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.1"}
    assert read_message(orjson.dumps(mark)) == Message("", "", "", None, "read", "wamid.1")
    typing = mark | {"typing_indicator": {"type": "text"}}
    assert read_message(orjson.dumps(typing)).text == "typing"
    for wrong in ({"message_id": ""}, {"status": "delivered"}, {"typing_indicator": {"type": "dance"}}):
        with pytest.raises(GraphError):
            read_message(orjson.dumps(mark | wrong))


def test_a_user_with_a_hidden_number_is_addressed_by_user_id():
    message = read("text", {"body": "Hello"}, to=None, recipient="US.13491208655302741918")
    assert message.recipient == "US.13491208655302741918"
    assert success(message, "wamid.1")["contacts"] == [{"input": message.given, "user_id": message.given}]
    assert read("text", {"body": "Hello"}, recipient="US.1349").recipient == "60123456789"
    with pytest.raises(GraphError):
        read("text", {"body": "Hello"}, to=None, recipient="60123456789")


@given(st.integers(10**4, 10**15 - 1))
def test_a_user_id_can_be_converted_back_to_the_number(number):
    assert chat_of(user_id_of(str(number))) == str(number)


@pytest.fixture
def registry(tmp_path):
    database = Database(tmp_path / "sandbox.db", SCHEMA)
    yield Registry(database)
    database.close()


def test_a_template_of_the_registry_can_be_sent_in_its_language(registry):
    template = Template(name="greeting", language="de", body="Hallo {{name}}")
    registry.update("template", template.key, template.model_dump())
    named = {"type": "body", "parameters": [{"type": "text", "parameter_name": "name", "text": "Ana"}]}
    given = {"name": "greeting", "language": {"code": "de"}, "components": [named]}
    assert template_parameters.fill(registry, given).text == "Hallo Ana"
    with pytest.raises(GraphError) as refused:
        template_parameters.fill(registry, given | {"language": {"code": "en"}})
    assert refused.value.code == 132001
    assert "greeting" in {each.name for each in templates.catalogue(registry)}


FILE = File("990000000000000001", "1055", "image/webp", "00" * 32, 9, "a.webp", True, 0, 0)


def changes_of(file=None, **posted):
    """The changes that deliver a customer message."""
    composed = compose(
        CustomerMessage.model_validate({"to": "1055", "from": "60123456789"} | posted), METADATA, file, 1790000000.0
    )
    body = orjson.loads(
        webhook_body([each._asdict() | {"account": "1", "metadata": METADATA} for each in composed.updates])
    )
    return body["entry"][0]["changes"]


def message(**posted):
    (change,) = changes_of(**posted)
    (found,) = change["value"]["messages"]
    return found


def test_a_customers_text_becomes_a_webhook_in_metas_form():
    (change,) = changes_of(text="Hello", name="Ana", reply_to="wamid.1")
    found = change["value"]["messages"][0]
    assert (change["field"], change["value"]["contacts"]) == (
        "messages", [{"profile": {"name": "Ana"}, "wa_id": "60123456789", "user_id": "US.77000060123456789"}],
    )  # fmt: skip
    assert (found["from"], found["timestamp"], found["type"]) == ("60123456789", "1790000000", "text")
    assert (found["text"], found["context"]) == ({"body": "Hello"}, {"from": "15550100001", "id": "wamid.1"})


def test_each_kind_of_customer_message_has_its_form():
    assert message(emoji="👍", message_id="m")["reaction"] == {"message_id": "m", "emoji": "👍"}
    assert message(emoji="", message_id="m")["reaction"] == {"message_id": "m"}
    assert message(button="Yes", button_id="y")["interactive"]["button_reply"] == {"id": "y", "title": "Yes"}
    assert message(type="button", button="Yes")["button"] == {"payload": "Yes", "text": "Yes"}
    assert message(type="edit", message_id="m", text="new")["edit"]["original_message_id"] == "m"
    assert message(type="revoke", message_id="m")["revoke"] == {"original_message_id": "m"}
    assert message(type="unsupported")["errors"][0]["code"] == 131051
    assert message(type="location", content='{"latitude": 1}')["location"] == {"latitude": 1}
    assert message(type="order", content={"catalog_id": "1"})["order"] == {"catalog_id": "1"}
    sticker = message(file=FILE)
    assert (sticker["type"], sticker["sticker"]["animated"]) == ("sticker", True)
    assert message(file=FILE, type="document")["document"]["filename"] == "a.webp"


def test_a_customer_message_can_have_unusual_fields():
    assert "contacts" not in changes_of(text="x", no_contacts=True)[0]["value"]
    assert "contacts" not in changes_of(type="system", text="x")[0]["value"]
    assert message(text="x", milliseconds=True, timestamp=1790000000.5)["timestamp"] == "1790000000500"
    hidden = changes_of(**{"from": "", "user_id": "US.13", "text": "x"})[0]["value"]
    assert "from" not in hidden["messages"][0]
    assert hidden["messages"][0]["from_user_id"] == "US.13"
    assert hidden["contacts"][0].keys() == {"profile", "user_id"}
    (echo,) = changes_of(text="x", echo=True)
    assert (echo["field"], echo["value"]["message_echoes"][0]["to"]) == ("smb_message_echoes", "60123456789")
    assert changes_of(value='{"odd": [1]}', field="flows") == [{"field": "flows", "value": {"odd": [1]}}]


def test_many_messages_come_in_one_change_or_in_several_repeated_and_shuffled():
    bodies = [change["value"]["messages"][0]["text"]["body"] for change in changes_of(text="x", count=3, duplicates=1)]
    assert bodies == ["x 1", "x 1", "x 2", "x 2", "x 3", "x 3"]
    (together,) = changes_of(text="x", count=1000, together=True, shuffle=True)
    assert {each["text"]["body"] for each in together["value"]["messages"]} == {f"x {n}" for n in range(1, 1001)}


@pytest.mark.parametrize(
    "wrong",
    [{"from": ""}, {"from": "Ana"}, {"to": ""}, {"emoji": "👍"}, {"type": "edit"}, {"count": 0}, {"shout": "x"}],
)
def test_an_invalid_customer_message_is_refused(wrong):
    with pytest.raises(ValidationError):
        CustomerMessage.model_validate({"to": "1055", "from": "60123456789"} | wrong)


def test_a_notice_is_delivered_under_its_field():
    (report,) = notice_updates(Notice(field="message_template_status_update", value={"event": "PAUSED"}), "", "", "77")
    (entry,) = orjson.loads(webhook_body([report._asdict() | {"metadata": METADATA}]))["entry"]
    assert entry["id"] == "77"
    (change,) = entry["changes"]
    assert change["field"] == "message_template_status_update"
    assert (change["value"]["event"], change["value"]["message_template_name"]) == ("PAUSED", "order_update")
