"""One person has one chat: under other forms of a number, under user ids, and after a change of the number."""

import pytest

from services.api.messages import queries
from services.api.messages.queries import START, Chat
from tests.support.meta_inbox import AT, MetaInbox
from tests.support.meta_payloads import AINA, message, value, webhook
from tests.support.outbox import execute

NEW, USER, NEXT_USER = "60198765432", "US.13491208", "US.99991208"


@pytest.fixture
def meta(opened):
    return MetaInbox(opened[0])


def text(words, wamid, at=AT, **sender):
    return message("text", {"body": words}, id=wamid, timestamp=str(at)) | {"from": AINA} | sender


def without_number(words, wamid, user=USER, at=AT):
    said = text(words, wamid, at) | {"from_user_id": user}
    return {name: inner for name, inner in said.items() if name != "from"}


def changed(kind="user_changed_number", at=AT + 100, wamid="wamid.changed", **more):
    return message("system", {"body": "Aina changed", "type": kind} | more, id=wamid, timestamp=str(at))


def page(meta, chat):
    found, _ = queries.page(meta.connection, Chat("0128", chat), START, 50, "")
    return sorted(each["body"] for each in found)


def window(meta, chat):
    found = queries.window(meta.connection, Chat("0128", chat))
    return found is not None and found["open"]


NUMBERS = [("5511999998888", "551199998888"), ("525512345678", "5215512345678"), ("541123456789", "5491123456789")]


@pytest.mark.parametrize(("dialled", "known"), NUMBERS)
@pytest.mark.parametrize("through", ["answer", "report"])
def test_a_number_that_the_provider_knows_in_another_form_is_one_chat(meta, dialled, known, through):
    meta.send("wamid.1", dialled, recipient=known if through == "answer" else None)
    if through == "report":
        meta.report({"id": "wamid.1", "status": "delivered", "recipient_id": known})
    meta.say(text("Hello", "wamid.in", 4_000_000_000, **{"from": known}), contacts=[])
    assert [event["chatId"] for event in meta.events("message")] == [dialled]
    assert [row[0] for row in meta.contacts()] == [f"0128-{dialled}"]
    assert {row[0] for row in meta.rows("contact_id")} == {f"0128-{dialled}"}
    for chat in (dialled, known):
        assert page(meta, chat) == ["Hello", "Hi"]
        assert window(meta, chat)


@pytest.mark.parametrize(("dialled", "known"), NUMBERS)
def test_a_person_who_wrote_first_keeps_their_chat_in_whichever_form_the_answer_goes(meta, dialled, known):
    meta.say(text("Hello", "wamid.in", 4_000_000_000, **{"from": known}), contacts=[])
    meta.send("wamid.1", dialled, recipient=known)
    meta.report({"id": "wamid.1", "status": "read", "recipient_id": known})
    assert [row[0] for row in meta.contacts()] == [f"0128-{known}"]
    assert {row[0] for row in meta.rows("contact_id")} == {f"0128-{known}"}
    assert {event["chatId"] for name, event in meta.events()} == {known}
    for chat in (dialled, known):
        assert page(meta, chat) == ["Hello", "Hi"]
        assert window(meta, chat)


def test_the_user_id_in_a_report_leads_to_the_chat_of_the_number(meta):
    meta.send("wamid.1", AINA)
    meta.report({"id": "wamid.1", "status": "delivered", "recipient_user_id": USER})
    meta.say(without_number("Hello", "wamid.in"), contacts=[])
    assert [event["chatId"] for event in meta.events("message")] == [AINA]
    assert page(meta, AINA) == page(meta, USER) == ["Hello", "Hi"]


def test_a_user_whose_number_becomes_known_is_read_as_one_chat(meta):
    meta.say(
        without_number("One", "w1"), text("Two", "w2", from_user_id=USER), without_number("Three", "w3"), contacts=[]
    )
    assert [event["chatId"] for event in meta.events("message")] == [USER, AINA, AINA]
    assert page(meta, AINA) == page(meta, USER) == ["One", "Three", "Two"]
    assert meta.events("user.changed") == []


def test_a_message_without_a_number_finds_the_number_that_the_same_webhooks_tell(meta):
    said = [text("One", "w1", from_user_id=USER), without_number("Two", "w2")]
    meta.tell(webhook(value(*said, contacts=[])))
    assert [event["chatId"] for event in meta.events("message")] == [AINA, AINA]


def test_a_new_number_takes_the_chat_along(meta):
    meta.say(text("Hello", "w1", 4_000_000_000, from_user_id=USER))
    execute(meta.connection, "UPDATE messages SET timestamp = to_timestamp(%s)", (AT,))
    execute(meta.connection, "UPDATE chat SET last_inbound_at = to_timestamp(%s)", (AT,))
    meta.send("wamid.1")
    execute(meta.connection, "UPDATE outbox SET accepted_at = to_timestamp(%s)", (AT + 1,))
    execute(meta.connection, "UPDATE messages SET timestamp = to_timestamp(%s) WHERE from_me", (AT + 1,))
    note = changed(wa_id=NEW)
    meta.say(note, note, contacts=[])
    (event,) = meta.events("user.changed")
    assert (event["chatId"], event["previousChatId"], event["name"]) == (NEW, AINA, "Aina")
    assert meta.contacts() == [(f"0128-{NEW}", "Aina", 1)]
    assert meta.windows() == [(NEW, USER, True)]
    assert page(meta, NEW) == ["Aina changed", "Hello", "Hi"]
    assert window(meta, NEW)
    assert meta.events("message")[-1]["chatId"] == NEW
    meta.say(without_number("It is me", "w2", at=AT + 200), contacts=[])
    assert meta.events("message")[-1]["chatId"] == NEW
    late = text("Late", "w0", AT + 50)
    meta.say(late, contacts=[])
    assert meta.events("message")[-1]["chatId"] == NEW
    stranger = text("Who are you?", "w3", AT + 300)
    meta.say(stranger, note, contacts=[{"wa_id": AINA, "profile": {"name": "Stranger"}}])
    assert meta.events("message")[-1]["chatId"] == AINA
    assert page(meta, AINA) == ["Who are you?"]
    assert page(meta, NEW) == ["Aina changed", "Hello", "Hi", "It is me", "Late"]
    assert [row[:2] for row in meta.contacts()] == [(f"0128-{AINA}", "Stranger"), (f"0128-{NEW}", "Aina")]


def test_the_note_of_a_change_opens_no_window_and_counts_as_no_message(meta):
    meta.say(changed(wa_id=NEW), changed("user_changed_user_id", wamid="w2", previous_user_id=USER, user_id=NEXT_USER))
    assert [row[2] for row in meta.windows()] == [False] * len(meta.windows())
    assert {unread for _, _, unread in meta.contacts()} == {0}


def test_a_new_user_id_reaches_the_same_chat_and_so_does_the_former_one(meta):
    meta.say(text("One", "w1", from_user_id=USER))
    note = changed("user_changed_user_id", previous_user_id=USER, user_id=NEXT_USER)
    meta.say(note, note)
    (event,) = meta.events("user.changed")
    assert (event["chatId"], event["previousChatId"]) == (AINA, AINA)
    assert (event["userId"], event["previousUserId"]) == (NEXT_USER, USER)
    meta.say(
        without_number("Two", "w2", NEXT_USER, AT + 200), without_number("Three", "w3", USER, AT + 201), contacts=[]
    )
    assert {event["chatId"] for event in meta.events("message")} == {AINA}
    assert page(meta, NEXT_USER) == ["Aina changed", "One", "Three", "Two"]


def test_a_user_without_a_number_keeps_the_chat_under_a_new_id(meta):
    meta.say(without_number("One", "w1"), contacts=[])
    body = {"previous_user_id": USER, "user_id": NEXT_USER, "type": "user_changed_user_id", "body": "Note"}
    note = {"id": "w2", "timestamp": str(AT + 1), "type": "system", "system": body}
    meta.say(note, without_number("Two", "w3", NEXT_USER, AT + 2), contacts=[])
    assert meta.events("user.changed")[0]["chatId"] == NEXT_USER
    assert page(meta, NEXT_USER) == page(meta, USER) == ["Note", "One", "Two"]


def test_the_field_that_reports_user_ids_does_the_same(meta):
    meta.say(text("One", "w1", from_user_id=USER))
    update = {"wa_id": AINA, "user_id": {"previous": USER, "current": NEXT_USER}, "timestamp": str(AT + 1)}
    meta.tell(webhook(value(user_id_update=[update], messages=[]), field="user_id_update"))
    assert [name for name, _ in meta.events()][2:] == ["user.changed", "provider.update"]
    meta.say(without_number("Two", "w2", NEXT_USER, AT + 2), contacts=[])
    assert meta.events("message")[-1]["chatId"] == AINA


def test_a_person_who_writes_from_another_number_without_a_note_takes_the_chat_along(meta):
    meta.say(text("One", "w1", from_user_id=USER), text("Two", "w2", AT + 9, from_user_id=USER, **{"from": NEW}))
    assert meta.events("user.changed")[0]["chatId"] == NEW
    meta.say(without_number("Three", "w3", at=AT + 10), text("Late", "w0", AT + 1, from_user_id=USER), contacts=[])
    assert page(meta, NEW) == ["Late", "One", "Three", "Two"]
    assert [row[0] for row in meta.contacts()] == [f"0128-{NEW}"]


def test_a_new_name_is_followed_and_an_older_one_does_not_return(meta):
    def named(name, wamid, at):
        meta.say(text("Hi", wamid, at), contacts=[{"wa_id": AINA, "profile": {"name": name}}])

    for name, wamid, at, shown in [
        ("Ana \U0001f469\u200d\U0001f4bb", "w1", AT, "Ana \U0001f469\u200d\U0001f4bb"), ("Ana", "w2", AT + 9, "Ana"),
        ("Old", "w3", AT - 9, "Ana"), ("Line\nBreak", "w4", AT + 10, "Line Break"), ("", "w5", AT + 11, "Line Break"),
    ]:  # fmt: skip
        named(name, wamid, at)
        assert meta.contacts("name") == [(shown,)]
