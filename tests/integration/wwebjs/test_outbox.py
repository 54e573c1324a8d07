"""The outbox of WhatsApp Web: one bot at a time, keys chosen before the send, edits and deletions."""

from typing import Unpack

import pytest
from uuid_utils import uuid7

from services.connectors.wwebjs.sending.send_guard import DatabaseSendGuard
from services.message import Payload, Status
from services.outbox import recovery
from services.outbox.accept import Entry
from services.outbox.outcome_policy import Result
from services.outbox.recovery import KeyedRecovery
from services.outbox.store import Outbox
from tests.support.outbox import accept, add_bot, execute, status_of

KEY = "true_60123456789@c.us_3EB0AA"


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def bot(connection):
    return add_bot(connection, kind="wwebjs")


def web_outbox(bot, run="run1"):
    return Outbox("wwebjs", f"host/wwebjs-session-0128-0/{run}", 1e6, 60, bot_id=bot)


def web_entry(bot, kind="text", chat="60123456789", **payload: Unpack[Payload]):
    return Entry(str(uuid7()), "wwebjs", bot, "0128", 0, chat, kind, payload or {"message": "hello"})


def finish(connection, box, message, key):
    """Record that the message was sent under its key."""
    box.record(
        connection,
        [Result(message.bot_id, message.chat_id, message.id, box.worker, True, Status.SENT, provider_id=key)],
    )


def test_a_session_claims_the_messages_of_its_own_bot_alone(connection, bot):
    other = add_bot(connection, index=1, kind="wwebjs")
    accept(connection, web_entry(bot), web_entry(other))
    (message,) = web_outbox(other).claim(connection, 10)
    assert message.bot_id == other
    assert web_outbox(bot).has_due(connection)
    assert not web_outbox(other).has_due(connection)


def test_a_reserved_key_comes_with_the_message_when_it_is_claimed_again(opened, connection, bot):
    guard = DatabaseSendGuard(opened[1])
    accept(connection, web_entry(bot), web_entry(bot))
    (message,) = web_outbox(bot).claim(connection, 10)
    assert message.provider_id is None
    guard.reserve(message, KEY)
    KeyedRecovery(web_outbox(bot, "run2"), bot).of_earlier_runs(connection)
    (again,) = web_outbox(bot, "run2").claim(connection, 10)
    assert (again.id, again.provider_id, again.attempts) == (message.id, KEY, 0)
    guard.reserve(again, None)
    KeyedRecovery(web_outbox(bot, "run3"), bot).of_earlier_runs(connection)
    assert web_outbox(bot, "run3").claim(connection, 10)[0].provider_id is None


def test_messages_in_hand_of_the_same_run_are_not_requeued(connection, bot):
    accept(connection, web_entry(bot))
    box = web_outbox(bot)
    assert len(box.claim(connection, 10)) == 1
    KeyedRecovery(box, bot).of_earlier_runs(connection)
    assert box.claim(connection, 10) == []


def test_workers_of_another_channel_leave_the_claims_of_a_session_alone(connection, bot):
    accept(connection, web_entry(bot))
    Outbox("wwebjs", "host/wwebjs-session-0128-0/run1", 1e6, -1.0, bot_id=bot).claim(connection, 10)
    assert recovery.expired(connection, "meta") == []
    assert len(recovery.expired(connection, "wwebjs")) == 1


def history(connection):
    return execute(connection, "SELECT content, edited, status FROM messages ORDER BY timestamp")


def test_an_edit_and_a_deletion_change_the_message_that_they_are_about(connection, bot):
    box = web_outbox(bot)
    edit = web_entry(bot, "edit", message="hello, world", targetMessageId="x", target_provider_id=KEY)
    local = web_entry(bot, "delete", deleteForEveryone=False, targetMessageId="x", target_provider_id=KEY)
    delete = web_entry(bot, "delete", deleteForEveryone=True, targetMessageId="x", target_provider_id=KEY)
    seen = []
    for entry, key in ((web_entry(bot), KEY), (edit, None), (local, None), (delete, None)):
        accept(connection, entry)
        (message,) = box.claim(connection, 10)
        finish(connection, box, message, key)
        assert status_of(connection, entry.message_id) == "sent"
        seen.append(history(connection))
    assert seen == [
        [("hello", False, "sent")],
        [("hello, world", True, "sent")],
        [("hello, world", True, "sent")],
        [("hello, world", True, "revoked")],
    ]
