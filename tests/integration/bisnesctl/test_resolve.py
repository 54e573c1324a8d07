"""`bisnesctl dead-letters resolve`: an operator decides what became of messages whose outcome stays unknown."""

import contextlib

import pytest

from services.database.connection import Database
from services.message import Status, StatusUpdate
from services.outbox import resolutions
from tests.support.outbox import accept, add_bot, apply_statuses, entry, execute, outbox, result

COMPANY, CHAT = "0128", "60123456789"
REASON = "the connection was cut"


@pytest.fixture
def connection(environment, database):
    settings = environment(DATABASE_URL=database)
    with contextlib.closing(Database(settings.database_dsn).connect()) as opened:
        execute(opened, "INSERT INTO event_feed (company_id) VALUES ('0128')")
        yield opened


@pytest.fixture
def bot(connection):
    return add_bot(connection, COMPANY)


def unknown(connection, bot, chat=CHAT, code="no_answer", text="Hello"):
    """A message that may have been sent; returns its id."""
    accept(connection, entry(bot, chat, text))
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed, Status.UNKNOWN, code=code, error=REASON)])
    return claimed.message_id


def statuses(connection):
    return dict(execute(connection, "SELECT message_id::text, status::text FROM outbox"))


def acks(connection):
    rows = execute(connection, "SELECT payload FROM event WHERE name = 'message.ack' ORDER BY seq")
    return [(payload["id"], payload["status"]) for (payload,) in rows]


def test_a_message_is_resolved_as_sent_with_history_and_event(tool, connection, bot):
    message = unknown(connection, bot)
    said = tool("dead-letters", "resolve", "--as", "sent", message)
    assert "resolving 1 message as sent" in said.text
    assert resolutions.record_resolutions(connection, outbox()) == 1
    assert statuses(connection) == {message: "sent"}
    assert execute(connection, "SELECT content, status FROM messages") == [("Hello", "sent")]
    assert acks(connection) == [(message, "unknown"), (message, "sent")]
    assert execute(connection, "SELECT count(*) FROM unknown_message") == [(0,)]
    assert execute(connection, "SELECT provider_id FROM outbox") == [(None,)]


def test_a_message_that_is_resolved_as_failed_may_be_delivered_after_all(tool, connection, bot):
    message = unknown(connection, bot)
    tool("dead-letters", "resolve", "--as", "failed", message)
    resolutions.record_resolutions(connection, outbox())
    assert execute(connection, "SELECT status::text, error_code FROM outbox") == [("failed", "resolved")]
    assert acks(connection)[-1] == (message, "failed")
    apply_statuses(connection, StatusUpdate("wamid.1", Status.DELIVERED, 1.0, message))
    assert statuses(connection) == {message: "delivered"}


def test_a_message_is_sent_again_before_the_later_ones_of_its_chat(tool, connection, bot):
    message, later = unknown(connection, bot), entry(bot, CHAT, "later")
    accept(connection, later)
    assert "resolving 1 message as again" in tool("dead-letters", "resolve", "--as", "again", message).text
    assert statuses(connection) == {message: "queued", later.message_id: "queued"}
    (first,) = outbox().claim(connection, 10)
    outbox().record(connection, [result(first)])
    (second,) = outbox().claim(connection, 10)
    assert [first.message_id, second.message_id] == [message, later.message_id]
    assert acks(connection) == [(message, "unknown"), (message, "sent")]


def test_many_are_resolved_by_company_bot_time_and_cause(tool, connection, bot):
    other = add_bot(connection, COMPANY, index=1)
    ours = [unknown(connection, bot, chat) for chat in ("60111", "60222")]
    unknown(connection, other, "60333")
    execute(connection, "UPDATE outbox SET phone_index = 1 WHERE bot_id = %s", (other,))
    unknown(connection, bot, "60444", code="worker_ended")
    named = ("dead-letters", "resolve", "--as", "failed", "--bot", "0128/0", "--code", "no_answer", "--since", "1h")
    assert "would resolve 2 messages" in tool(*named, "--dry-run").text
    assert "resolving 2 messages as failed" in tool(*named).text
    resolutions.record_resolutions(connection, outbox())
    assert {message for message, status in statuses(connection).items() if status == "failed"} == set(ours)
    tool(*named, code=2)
    tool("dead-letters", "resolve", "--as", "sent", "--company", "0999", code=2)
    assert "resolving 2 messages" in tool("dead-letters", "resolve", "--as", "sent", "--company", COMPANY).text


def test_a_message_that_is_not_unknown_is_left_alone(tool, connection, bot):
    accept(connection, waiting := entry(bot, CHAT))
    said = tool("dead-letters", "resolve", "--as", "sent", waiting.message_id, code=2)
    assert "dead-letters list --kind unknown" in said.text
    tool("dead-letters", "resolve", "--as", "sent", code=2)


def test_a_retry_says_how_an_unknown_message_is_resolved(tool, connection, bot):
    message = unknown(connection, bot)
    execute(connection, "UPDATE unknown_message SET since = now() - interval '10 min'")
    assert "dead-letters resolve" in tool("dead-letters", "retry", message, code=2).text
    assert tool("dead-letters", "list", "--kind", "unknown", "--json").json[0]["reason"] == f"no_answer: {REASON}"


def test_the_messages_of_a_removed_bot_can_be_resolved_but_not_sent_again(tool, connection, bot):
    message = unknown(connection, bot)
    execute(connection, "DELETE FROM phone_configs")
    tool("dead-letters", "resolve", "--as", "again", message, code=2)
    tool("dead-letters", "resolve", "--as", "failed", message)
    assert resolutions.record_resolutions(connection, outbox()) == 1
    assert statuses(connection) == {message: "failed"}


def test_messages_that_stay_unknown_are_reported_once(connection, bot):
    unknown(connection, bot, "60111")
    unknown(connection, bot, "60222")
    resolutions.report_lasting(connection, outbox())
    assert execute(connection, "SELECT count(*) FROM process_events") == [(0,)]
    execute(connection, "UPDATE unknown_message SET since = now() - interval '10 min'")
    for _ in range(2):
        resolutions.report_lasting(connection, outbox())
    ((kind, severity, data),) = execute(connection, "SELECT event_type, severity, event_data FROM process_events")
    assert (kind, severity, data["messages"]) == ("messages_unknown", "warning", 2)
