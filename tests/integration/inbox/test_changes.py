"""Edits, reactions, revocations and reports in any order of arrival: the same history in the end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.outbox.reports import MAX_WAITING
from tests.support.meta_inbox import AT, MetaInbox
from tests.support.meta_payloads import AINA, message, value, webhook
from tests.support.outbox import execute

RESET = """TRUNCATE phone_configs, messages, contacts, chat, chat_alias, message_change, event, event_feed,
    webhook_inbox, outbox, lane RESTART IDENTITY CASCADE"""


@pytest.fixture
def meta(opened):
    return MetaInbox(opened[0])


ORIGINAL = message("text", {"body": "first"}, id="w0", timestamp=str(AT))


def edit(words, at, wamid):
    changed = {"original_message_id": "w0", "message": {"type": "text", "text": {"body": words}}}
    return message("edit", changed, id=wamid, timestamp=str(at))


def revoke(at=AT + 50, target="w0"):
    return message("revoke", {"original_message_id": target}, id="w.revoke", timestamp=str(at))


def reaction(emoji, at, wamid, target="w0"):
    return message("reaction", {"message_id": target, "emoji": emoji}, id=wamid, timestamp=str(at))


def history(meta):
    return meta.rows("content, edited, reaction, status") + meta.contacts("last_message ->> 'body', unread_count")


def names(meta):
    return [name for name, _ in meta.events()]


def test_an_edit_that_arrives_first_changes_the_message_once_it_is_there(meta):
    meta.say(edit("second", AT + 1, "w1"), ORIGINAL, ORIGINAL, edit("second", AT + 1, "w1"))
    assert history(meta) == [("second", True, None, "received"), ("second", 1)]
    assert names(meta) == ["message.edited", "message", "message.any", "message.edited"]
    first, again = meta.events("message.edited")
    assert (first["messageId"], again["messageId"]) == (None, meta.events("message")[0]["id"])


def test_a_reaction_and_a_revocation_that_arrive_first_wait_as_well(meta):
    meta.say(reaction("👍", AT + 1, "w1"), revoke(), ORIGINAL)
    assert history(meta) == [("first", False, "👍", "revoked"), (None, 1)]
    assert sorted(names(meta)[-2:]) == ["message.reaction", "message.revoked"]


def test_a_reaction_to_a_message_of_ours_waits_until_it_is_recorded(meta):
    meta.say(reaction("👍", AT + 1, "w1", "wamid.ours"))
    ours = meta.send()
    meta.say(message("text", {"body": "Hi"}))
    assert meta.rows("reaction")[-1] == ("👍",)
    assert meta.events("message.reaction")[-1]["reaction"]["messageId"] == ours


@pytest.mark.parametrize("status", ["delivered", "read", "failed"])
def test_a_report_that_arrives_before_its_echo_counts(meta, status):
    echo = {"from": "603", "to": AINA, "id": "w.echo", "timestamp": str(AT), "type": "text", "text": {"body": "Ours"}}
    meta.report({"id": "w.echo", "status": "sent"}, {"id": "w.echo", "status": status})
    meta.tell(webhook(value(message_echoes=[echo], messages=[]), field="smb_message_echoes"))
    assert meta.rows("content, status") == [("Ours", status)]
    meta.report({"id": "w.echo", "status": "sent"})
    assert meta.rows("status") == [(status,)]


def test_of_two_edits_in_a_second_the_later_arrival_wins_and_a_repetition_changes_nothing(meta):
    one, two = edit("one", AT + 1, "w1"), edit("two", AT + 1, "w2")
    meta.say(ORIGINAL, one, two, one, two, one)
    assert history(meta)[0][0] == "two"
    assert [event["body"] for event in meta.events("message.edited")] == ["one", "two"]


def test_a_repeated_reaction_does_not_return(meta):
    first, second = reaction("👍", AT + 1, "w1"), reaction("❤", AT + 1, "w2")
    meta.say(ORIGINAL, first, second, first)
    assert history(meta)[0][2] == "❤"
    meta.say(reaction("👍", AT + 2, "w3"))
    assert history(meta)[0][2] == "👍"
    meta.say(reaction("", AT + 3, "w4"), second)
    assert history(meta)[0][2] is None


def test_a_revoked_message_stays_revoked_after_a_report(meta):
    echo_target = meta.send()
    execute(meta.connection, "UPDATE messages SET status = 'revoked'")
    meta.report({"id": "wamid.ours", "status": "delivered"}, {"id": "wamid.ours", "status": "read"})
    assert meta.rows("status") == [("revoked",)]
    assert echo_target


def test_changes_wait_for_a_day_at_most(meta):
    meta.say(edit("second", AT + 1, "w1"))
    execute(meta.connection, "UPDATE message_change SET seen_at = now() - interval '25 hours'")
    meta.say(ORIGINAL)
    assert history(meta)[0][0] == "first"


def test_so_many_changes_of_a_company_wait_and_no_more(meta, monkeypatch):
    execute(
        meta.connection,
        "INSERT INTO message_change (company_id, change_id, kind, target, details, waits)"
        " SELECT '0128', n::text, 'edit', 'other', '{}', true FROM generate_series(1, %s) n",
        (MAX_WAITING,),
    )
    meta.say(edit("second", AT + 1, "w1"))
    meta.report({"id": "unknown", "status": "read"})
    assert execute(meta.connection, "SELECT count(*) FROM message_change WHERE waits") == [(MAX_WAITING,)]
    assert names(meta) == ["message.edited"]


ARRIVALS = [
    ORIGINAL, edit("one", AT + 1, "w1"), edit("two", AT + 2, "w2"), reaction("👍", AT + 3, "w3"),
    reaction("❤", AT + 4, "w4"), reaction("", AT + 5, "w5"), reaction("🎉", AT + 6, "w6"), revoke(),
]  # fmt: skip


@settings(max_examples=25)
@given(
    st.sets(st.integers(0, len(ARRIVALS) - 1)).flatmap(
        lambda repeated: st.permutations([*range(len(ARRIVALS)), *sorted(repeated)])
    )
)
def test_any_order_of_arrival_gives_the_same_history(opened, order):
    connection = opened[0]
    execute(connection, RESET)
    meta = MetaInbox(connection)
    meta.say(*(ARRIVALS[n] for n in order))
    assert history(meta) == [("two", True, "🎉", "revoked"), (None, 1)]
    assert meta.aside() == []
    assert len(meta.events("message")) == 1
