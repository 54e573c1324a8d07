"""Claims of a WhatsApp Web number reserve keys for texts to chats that it has written to before."""

from typing import Unpack

import pytest
from uuid_utils import uuid7

from services.message import Payload, Status
from services.outbox.accept import Entry
from services.outbox.keyed_claims import MAX_SPARE_IDS, KeyedOutbox, SpareIds
from services.outbox.outcome_policy import Result
from services.outbox.store import Outbox
from tests.support.outbox import accept, add_bot, execute

CHAT, GROUP, HIDDEN = "60123456789", "120363000000000001@g.us", "60123456780"
#: The key of a text that was sent before, by chat: WhatsApp may call a chat by a hidden user's id.
FORMER = {
    CHAT: f"true_{CHAT}@c.us_3EB0AA",
    GROUP: f"true_{GROUP}_3EB0AB_60110000003@c.us",
    HIDDEN: "true_987654321@lid_3EB0AC",
}


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def bot(connection):
    return add_bot(connection, kind="wwebjs")


@pytest.fixture
def outbox(bot):
    ids = SpareIds()
    ids.add(["3EB001", "3EB002", "3EB003"])
    return KeyedOutbox("wwebjs", "host/session/1", 1e6, 60, bot_id=bot, spare_ids=ids)


def post(connection, bot, chat, kind="text", **payload: Unpack[Payload]):
    content: Payload = payload or {"message": "x"}
    entry = Entry(str(uuid7()), "wwebjs", bot, "0128", 0, chat, kind, content)
    accept(connection, entry)
    return entry.message_id


def record(connection, outbox, claimed, status=Status.SENT, key=None):
    final = status is not Status.QUEUED
    outbox.record(
        connection,
        [Result(claimed.bot_id, claimed.chat_id, claimed.id, outbox.worker, final, status, provider_id=key)],
    )


def send_before(connection, bot, *chats):
    """Send a text to each chat in the way of a session without spare ids."""
    plain = Outbox("wwebjs", "host/session/0", 1e6, 60, bot_id=bot)
    for chat in chats:
        post(connection, bot, chat)
    for claimed in plain.claim(connection, 10):
        assert claimed.new_key is None
        record(connection, plain, claimed, key=FORMER[claimed.chat_id])


def claim(connection, outbox, limit=10):
    """The claimed messages by their chats."""
    return {message.chat_id: message for message in outbox.claim(connection, limit)}


def test_texts_to_known_chats_are_claimed_with_keys_as_whatsapp_calls_the_chat(connection, bot, outbox):
    send_before(connection, bot, *FORMER)
    message_ids = {post(connection, bot, chat) for chat in FORMER}
    claimed = claim(connection, outbox)
    assert claimed[CHAT].new_key == f"true_{CHAT}@c.us_3EB001"
    assert claimed[GROUP].new_key == f"true_{GROUP}_3EB002_60110000003@c.us"
    assert claimed[HIDDEN].new_key == "true_987654321@lid_3EB003"
    assert {message.provider_id for message in claimed.values()} == {None}
    stored = execute(connection, "SELECT message_id::text, provider_id FROM outbox WHERE status = 'queued'")
    assert dict(stored) == {message.message_id: message.new_key for message in claimed.values()}
    keys = execute(connection, "SELECT key_id, message_id::text FROM wa_key")
    assert {message_id for _, message_id in keys} == message_ids
    assert execute(connection, "SELECT messages, new_chats FROM wa_sent") == [(3, 0)]
    assert outbox.spare_ids.missing == MAX_SPARE_IDS


def test_a_claim_writes_one_transaction(connection, bot, outbox):
    send_before(connection, bot, CHAT)
    post(connection, bot, CHAT)
    count = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    ((before,),) = execute(connection, count)
    assert claim(connection, outbox)[CHAT].new_key
    assert execute(connection, count) == [(before + 1,)]


@pytest.mark.parametrize("chat", [CHAT, GROUP])
def test_a_chat_that_was_never_written_to_gets_no_key(connection, bot, outbox, chat):
    post(connection, bot, chat)
    assert claim(connection, outbox)[chat].new_key is None
    assert outbox.spare_ids.missing == MAX_SPARE_IDS - 3


def test_a_chat_whose_last_messages_failed_gets_a_key_by_the_one_that_was_sent(connection, bot, outbox):
    send_before(connection, bot, CHAT)
    post(connection, bot, CHAT)
    record(connection, outbox, claim(connection, outbox)[CHAT], Status.FAILED)
    post(connection, bot, CHAT)
    assert claim(connection, outbox)[CHAT].new_key == f"true_{CHAT}@c.us_3EB002"


def test_an_attempt_after_a_failed_one_asks_the_page(connection, bot, outbox):
    send_before(connection, bot, CHAT)
    post(connection, bot, CHAT)
    first = claim(connection, outbox)[CHAT]
    record(connection, outbox, first, Status.QUEUED)
    execute(connection, "UPDATE outbox SET provider_id = NULL WHERE id = %s", (first.id,))
    assert claim(connection, outbox)[CHAT].new_key is None


def test_a_message_that_has_a_key_keeps_it(connection, bot, outbox):
    send_before(connection, bot, CHAT)
    post(connection, bot, CHAT)
    first = claim(connection, outbox)[CHAT]
    execute(connection, "UPDATE lane SET claim = NULL, due = now()")
    again = claim(connection, outbox)[CHAT]
    assert (again.provider_id, again.new_key) == (first.new_key, None)


def test_only_texts_get_keys_at_their_claim(connection, bot, outbox):
    send_before(connection, bot, *FORMER)
    post(connection, bot, CHAT, "image", media={"link": "https://x"})
    post(connection, bot, GROUP, "reaction", reaction="+", target_provider_id="k")
    assert [message.new_key for message in claim(connection, outbox).values()] == [None, None]


def test_a_number_in_warm_up_and_one_that_left_whatsapp_are_left_to_the_guard(connection, bot, outbox):
    send_before(connection, bot, CHAT, HIDDEN)
    execute(connection, "INSERT INTO wa_number (bot_id, chat_id, registered) VALUES (%s, %s, false)", (bot, HIDDEN))
    post(connection, bot, HIDDEN)
    assert claim(connection, outbox)[HIDDEN].new_key is None
    execute(connection, "INSERT INTO wa_limit (bot_id, per_day) VALUES (%s, 9)", (bot,))
    post(connection, bot, CHAT)
    assert claim(connection, outbox)[CHAT].new_key is None


def test_without_spare_ids_messages_are_claimed_all_the_same(connection, bot, outbox):
    outbox.spare_ids.take(2)
    send_before(connection, bot, *FORMER)
    for chat in FORMER:
        post(connection, bot, chat)
    claimed = claim(connection, outbox)
    assert len(claimed) == 3
    assert sum(message.new_key is not None for message in claimed.values()) == 1


def test_spare_ids_are_kept_up_to_a_limit():
    ids = SpareIds()
    ids.add(map(str, range(MAX_SPARE_IDS + 5)))
    assert ids.missing == 0
    assert ids.take(2) == ["0", "1"]
    assert ids.missing == 2
