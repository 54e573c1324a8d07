"""Events of the page, applied to a real PostgreSQL while messages are sent: all of them, and once."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.message import Status
from tests.support.outbox import execute
from tests.support.web_events import CHAT, CUSTOMER, GROUP, OWN, WebBot, acked, event, message, said

KEY, OTHER, THEIRS = f"true_{CHAT}_3EB001", f"true_{CHAT}_3EB002", f"false_{CHAT}_3A01"
LID = "987654321098765@lid"
RESET = """TRUNCATE phone_configs, wa_session, wa_key, outbox, lane, messages, contacts, chat, event, event_feed,
    webhook_inbox, media_download CASCADE"""


@pytest.fixture
def bot(opened):
    return WebBot(*opened)


def test_a_customers_text_is_stored_and_its_event_names_our_number(bot):
    bot.tell(said(THEIRS, quoted=KEY))
    assert bot.history() == [("Hello", False, "received")]
    told = bot.events("message")[0]
    assert (told["from"], told["to"], told["providerId"], told["replyTo"]) == (CUSTOMER, OWN, THEIRS, {"id": KEY})
    assert len(bot.events("message.any")) == 1


def test_our_own_send_is_one_row_and_told_once_though_the_page_shows_it_first(bot):
    number = bot.accept()
    claimed = bot.begin(KEY)
    bot.tell(said(KEY, "Hi", ack=0))  # before the outcome is written down …
    assert (bot.history(), bot.events()) == ([], [])
    bot.record(claimed, KEY)
    bot.tell(said(KEY, "Hi", ack=1), said(KEY, "Hi", ack=3))  # … and again afterwards, as when gaps are filled
    assert bot.history("id::text, content, from_me, status") == [(number, "Hi", True, "read")]
    assert [payload["id"] for payload in bot.events("message.any")] == [number]
    assert [payload["status"] for payload in bot.events("message.ack")] == ["sent", "read"]


def test_acknowledgements_that_come_before_the_outcome_count_and_the_chat_goes_on(bot):
    number, later = bot.accept(), bot.accept()
    claimed = bot.begin(KEY)
    bot.tell(said(KEY, "Hi", ack=0), acked(1, KEY), acked(2, KEY))
    assert bot.status(number) == "delivered"
    bot.record(claimed, KEY)
    assert bot.status(number) == "delivered"
    assert [payload["id"] for payload in bot.events("message.any")] == [number]
    assert [payload["status"] for payload in bot.events("message.ack")] == ["sent", "delivered"]
    assert bot.begin().message_id == later


def test_a_send_of_a_dead_process_is_recorded_by_the_page_event(bot):
    number, later = bot.accept(), bot.accept()
    bot.begin(KEY)
    bot.restart()
    bot.tell(said(KEY, "Hi", ack=2))  # gaps are filled at the start
    assert (bot.status(number), len(bot.events("message.any"))) == ("delivered", 1)
    claimed = bot.begin()  # it is not sent again
    assert claimed.message_id == later
    bot.record(claimed, OTHER)
    bot.recovery.of_expired_leases(bot.connection)
    assert execute(bot.connection, "SELECT pending FROM lane") == [(0,)]
    assert not bot.outbox.has_due(bot.connection)


def test_a_send_of_a_dead_process_is_recorded_by_reconciliation(bot):
    number = bot.accept()
    bot.begin(KEY)
    bot.tell(said(KEY, "Hi", ack=0))
    bot.restart()
    claimed = bot.begin()
    assert (claimed.message_id, claimed.provider_id) == (number, KEY)  # the next claim asks the chat for its key
    bot.record(claimed, KEY)
    bot.tell(said(KEY, "Hi", ack=1))
    assert bot.history("id::text, status") == [(number, "sent")]
    assert len(bot.events("message.any")) == 1


def test_a_status_report_settles_a_requeued_message(bot):
    number = bot.accept()
    claimed = bot.begin(KEY)
    bot.tell(acked(1, KEY))
    bot.record(claimed, status=None)  # the page was lost: no attempt, as far as that process knows
    execute(bot.connection, "UPDATE lane SET due = now()")
    assert bot.outbox.claim(bot.connection, 5) == []
    bot.recovery.of_expired_leases(bot.connection)
    assert bot.status(number) == "sent"
    assert not bot.outbox.has_due(bot.connection)
    later = bot.accept()
    assert bot.begin().message_id == later


def test_an_uncertain_message_is_settled_by_the_page(bot):
    number = bot.accept()
    bot.record(bot.begin(KEY), status=Status.UNKNOWN)
    bot.tell(said(KEY, "Hi", ack=1))
    assert bot.status(number) == "sent"
    assert len(bot.events("message.any")) == 1


def test_a_key_that_failed_is_still_ours(bot):
    number = bot.accept()
    claimed = bot.begin(KEY)
    bot.record(claimed, status=Status.QUEUED)
    execute(bot.connection, "UPDATE lane SET due = now()")
    bot.record(bot.begin(OTHER), OTHER)
    bot.tell(said(KEY, "Hi", ack=0), said(OTHER, "Hi"))
    assert bot.history("id::text, external_id") == [(number, OTHER)]
    assert len(bot.events("message.any")) == 1


def test_reports_find_a_message_under_the_other_name_of_its_chat(bot):
    direct, group = bot.send(KEY), bot.send(f"true_{GROUP}_3EB009_{OWN}@c.us")
    bot.tell(acked(3, f"true_{LID}_3EB001"), acked(2, f"true_{GROUP}_3EB009_{CHAT}"))
    assert (bot.status(direct), bot.status(group)) == ("read", "delivered")


def test_what_the_phone_sends_itself_is_told_once_and_its_reports_count(bot):
    bot.tell(said(KEY, "From the phone", ack=1), acked(2, KEY))
    bot.tell(acked(3, KEY), said(KEY, "From the phone", ack=2))
    assert bot.history() == [("From the phone", True, "read")]
    ((name, payload),) = bot.events()
    assert (name, payload["from"], payload["to"]) == ("message.any", OWN, CUSTOMER)


def test_our_own_reactions_edits_and_deletions_raise_no_event(bot):
    bot.tell(said(THEIRS))
    ours = bot.send(KEY, message="Hallo")
    bot.send(None, "reaction", reaction="❤", target_provider_id=THEIRS)
    bot.send(None, "edit", message="Hello!", target_provider_id=KEY)
    before = bot.events()
    now = time.time() + 5
    edit = {"id": KEY, "msg": message(KEY, body="Hello!", edited=now * 1000)}
    bot.tell(
        event("chat.new_reaction", {"id": f"true_{CHAT}_3EB7", "msgId": THEIRS, "text": "❤", "t": now}),
        event("chat.msg_edited", edit, now),
    )
    bot.send(None, "delete", target_provider_id=KEY, deleteForEveryone=True)
    bot.tell(event("chat.msg_revoke", {"refId": KEY}))
    new = [name for name, _ in bot.events()[len(before) :]]
    assert new == ["message.ack"]  # of the deletion
    assert bot.history("status")[-1] == ("revoked",)
    phone = {"id": f"true_{CHAT}_3F", "msgId": THEIRS, "text": "👍", "t": now + 9}
    bot.tell(event("chat.new_reaction", phone))
    assert bot.events("message.reaction")[0]["fromMe"]
    assert ours


def test_reactions_edits_and_revocations_of_customers_are_told_once(bot):
    bot.tell(said(THEIRS))
    now = time.time() + 5
    reaction = event("chat.new_reaction", {"id": f"false_{CHAT}_3A9", "msgId": THEIRS, "text": "❤", "t": now})
    edit = event("chat.msg_edited", {"id": THEIRS, "msg": message(THEIRS, body="Hello!", edited=now * 1000)}, now)
    for _ in range(2):
        bot.tell(reaction, edit)
    bot.tell(event("chat.msg_revoke", {"refId": THEIRS}), said(THEIRS, None, type="revoked"))
    names = [name for name, _ in bot.events()]
    assert names == ["message", "message.any", "message.reaction", "message.edited", "message.revoked"]


def test_a_missed_message_that_was_revoked_is_reported_as_revoked(bot):
    for _ in range(2):
        bot.tell(said(THEIRS, None, type="revoked"), said(f"false_{CHAT}_3A02", "New", edited=time.time()))
    assert sorted(bot.history("message_type, status")) == [("revoked", "revoked"), ("text", "received")]
    assert [name for name, _ in bot.events()] == ["message", "message.any", "message.revoked", "message", "message.any"]


def test_a_hidden_number_stays_the_chat_under_whose_number_it_is_known(bot):
    bot.tell(said(f"false_{LID}_3A01"))
    bot.tell(said(f"false_{LID}_3A02", phone=CHAT))
    bot.tell(said(f"false_{LID}_3A03"))
    assert [payload["chatId"] for payload in bot.events("message")] == [LID, CUSTOMER, CUSTOMER]
    assert [chat for (chat,) in bot.history("chat_id")] == [LID, CHAT, CHAT]


def test_a_group_has_its_own_name_and_its_members_speak(bot):
    bot.tell(said(f"false_{GROUP}_3A01_{CHAT}", author=CHAT, chatName="Family"))
    assert execute(bot.connection, "SELECT name, phone, chat_id FROM contacts") == [("Family", None, GROUP)]
    assert bot.history("author, chat_id") == [("Aina", GROUP)]
    told = bot.events("message")[0]
    assert (told["chatId"], told["author"], told["name"]) == (GROUP, CUSTOMER, "Aina")


def test_a_call_is_told_once(bot):
    call = {"id": "C1", "from": CHAT, "isVideo": True, "isGroup": False, "t": time.time()}
    bot.tell(event("call.incoming_call", call))
    bot.tell(event("call.incoming_call", call))
    assert [(told["from"], told["isVideo"]) for told in bot.events("call")] == [(CUSTOMER, True)]


def test_other_events_are_not_stored_and_invalid_ones_are_set_aside(bot):
    bot.tell(event("conn.main_ready", None), said("nonsense"), said(THEIRS, "\ud800 \0"))
    assert len(bot.aside()) == 1
    assert bot.history("content") == [("? ",)]
    bot.recorder.record([])
    assert execute(bot.connection, "SELECT count(*) FROM webhook_inbox") == [(2,)]


def transactions(bot):
    """How many transactions of the server have written anything."""
    ((number,),) = execute(bot.connection, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    return number


def test_events_are_stored_and_applied_in_one_transaction(bot):
    number = bot.send(KEY)
    before = transactions(bot)
    bot.recorder.record([acked(2, KEY), acked(3, KEY), said(THEIRS)])
    assert transactions(bot) == before + 1
    assert bot.status(number) == "read"
    assert bot.history("content") == [("Hi",), ("Hello",)]
    assert bot.woken == 0


def test_events_that_cannot_be_applied_are_stored_all_the_same(bot, monkeypatch):
    def fail(*_):
        raise ValueError("not now")

    with monkeypatch.context() as broken:
        broken.setattr(bot.inbox, "_apply", fail)
        bot.recorder.record([said(THEIRS)])
    assert bot.woken == 1
    assert execute(bot.connection, "SELECT processed_at FROM webhook_inbox") == [(None,)]
    bot.inbox.apply_all(bot.connection)
    assert bot.history("content") == [("Hello",)]


def test_the_page_s_event_of_a_text_that_this_process_sends_is_not_stored(bot):
    bot.sent_keys = [KEY]
    bot.recorder.record([said(KEY, "Hi", ack=0), acked(1, KEY), said(OTHER, "From the phone", ack=1)])
    assert bot.history("content") == [("From the phone",)]
    assert execute(bot.connection, "SELECT count(*) FROM webhook_inbox") == [(1,)]


def test_only_acknowledgements_and_events_of_our_own_texts_can_wait(bot):
    bot.sent_keys = [KEY]
    assert bot.recorder.can_wait([acked(2, KEY), said(KEY), event("send.ended", {"key": KEY})])
    assert not bot.recorder.can_wait([acked(2, KEY), said(THEIRS)])


def test_events_of_a_bot_that_was_a_meta_number_are_applied(bot):
    execute(bot.connection, "UPDATE phone_configs SET meta_phone_number_id = '1001280'")
    bot.tell(said(THEIRS))
    assert bot.history("content") == [("Hello",)]


def test_a_company_gets_events_of_its_own_messages_only(bot, opened):
    connection, pool = opened
    execute(connection, "UPDATE phone_configs SET company_id = '0999' WHERE id = %s", (bot.id,))
    other = WebBot(connection, pool)
    number = other.accept()
    claimed = other.begin(KEY)
    bot.tell(said(KEY, "From the phone"), acked(3, KEY))  # the same key, of another number
    assert other.status(number) == "queued"
    other.record(claimed, KEY)
    assert other.status(number) == "sent"


#: The events of one message of the customer and one of ours: live, from a catch-up or repeated.
STEPS = {
    "theirs": said(THEIRS, ack=0), "shown": said(KEY, "Hi", ack=0), "filled": said(KEY, "Hi", ack=2),
    "sent": acked(1, KEY), "delivered": acked(2, KEY), "read": acked(3, KEY, THEIRS), "played": acked(4, KEY),
}  # fmt: skip
steps = st.lists(st.lists(st.sampled_from(sorted(STEPS)), max_size=4), max_size=5)


@settings(max_examples=25)
@given(steps, st.integers(0, 5), st.sampled_from(["recorded", "given back", "died"]))
def test_in_whatever_order_things_come_each_message_is_stored_and_told_once(opened, told, when, outcome):
    connection, pool = opened
    execute(connection, RESET)
    bot = WebBot(connection, pool)
    number = bot.accept()
    claimed = bot.begin(KEY)
    for turn, batch in enumerate([*told, *[[]] * (6 - len(told))]):
        if turn == when:
            _end(bot, claimed, outcome)
        bot.tell(*(STEPS[name] for name in batch))
    bot.tell(STEPS["theirs"])
    _reconcile(bot)
    reached = [name for name in ("played", "read", "delivered", "filled", "sent") if any(name in each for each in told)]
    best = {"played": "read", "filled": "delivered"}.get(reached[0], reached[0]) if reached else "sent"
    assert (bot.status(number), bot.aside()) == (best, [])
    assert sorted(bot.history()) == [("Hello", False, "received"), ("Hi", True, best)]
    assert [payload["id"] for payload in bot.events("message.any") if payload["fromMe"]] == [number]
    assert len(bot.events("message")) == 1
    acks = [(payload["status"], payload.get("played")) for payload in bot.events("message.ack")]
    assert len(acks) == len(set(acks))
    assert execute(connection, "SELECT pending, claim FROM lane") == [(0, None)]


def _end(bot, claimed, outcome):
    if outcome == "recorded":
        bot.record(claimed, KEY)
    elif outcome == "given back":
        bot.record(claimed, status=None)
    else:
        bot.restart()


def _reconcile(bot):
    """The next process that claims the rest asks the chat, which has it."""
    execute(bot.connection, "UPDATE lane SET due = now() WHERE claim IS NULL")
    for claimed in bot.outbox.claim(bot.connection, 5):
        assert claimed.provider_id == KEY
        bot.record(claimed, KEY)
    bot.recovery.of_expired_leases(bot.connection)
