"""The backlog, as `status` counts it: by bot and channel, with the age of the oldest."""

import uuid

import pytest

from bisnesctl.views import backlog
from bisnesctl.views.backlog import Backlog
from tests.support.outbox import accept, add_bot, entry, execute, outbox, result


@pytest.fixture
def settings(database, environment):
    return environment(DATABASE_URL=database)


def test_nothing_waits_in_a_new_database(settings):
    found = backlog.read(settings)
    assert (found.unavailable, found.counted, found.bots) == ("", True, {})
    assert (found.inbox, found.deliveries) == (Backlog(0, None), Backlog(0, None))


def test_messages_are_counted_by_bot_until_they_are_sent(settings, opened):
    connection, _ = opened
    first, other = add_bot(connection), add_bot(connection, index=1)
    messages = [entry(first), entry(first), entry(first, chat="60123456780"), entry(other)]
    accept(connection, *messages)
    execute(
        connection,
        "UPDATE outbox SET accepted_at = now() - interval '1 hour' WHERE message_id = %s",
        (messages[1].message_id,),
    )
    found = backlog.read(settings)
    assert {name: each.waiting for name, each in found.bots.items()} == {"0128-0": 3, "0128-1": 1}
    assert found.channels["meta"].waiting == 4
    assert (found.bots["0128-0"].oldest_seconds or 0) < 3000  # the first of each chat counts, which was accepted first
    for _ in range(4):
        claimed = outbox().claim(connection, 10)
        outbox().record(connection, [result(each) for each in claimed])
    assert backlog.read(settings).bots == {}


def test_a_part_that_cannot_be_read_does_not_hide_the_others(settings, opened):
    connection, _ = opened
    accept(connection, entry(add_bot(connection)))
    execute(connection, "ALTER TABLE webhook_delivery RENAME TO gone")
    found = backlog.read(settings)
    assert found.channels["meta"].waiting == 1
    assert found.deliveries is None
    assert "bisnesctl migrate" in found.unavailable


def test_webhooks_and_events_are_counted(settings, opened):
    connection, _ = opened
    columns = "(process_name, body, received_at)"
    execute(connection, f"INSERT INTO webhook_inbox {columns} VALUES ('meta', 'x', now() - interval '90 s')")
    webhook = str(uuid.uuid4())
    columns = "(id, company_id, url, events, secret_encrypted)"
    execute(connection, f"INSERT INTO webhook {columns} VALUES (%s, 'a', 'b', '{{*}}', 'c')", (webhook,))
    columns = "(webhook_id, chat_id, seq, event_id)"
    execute(connection, f"INSERT INTO webhook_delivery {columns} VALUES (%s, 'c', 1, 'e')", (webhook,))
    found = backlog.read(settings)
    assert found.inbox is not None
    assert found.inbox.waiting == 1
    assert 90 <= (found.inbox.oldest_seconds or 0) < 3600
    assert found.deliveries is not None
    assert found.deliveries.waiting == 1


def test_without_the_database_nothing_is_known_and_nothing_raised(environment):
    found = backlog.read(environment(DATABASE_URL="postgresql://127.0.0.1:1/none"))
    assert not found.counted
    assert "PostgreSQL cannot be reached" in found.unavailable
