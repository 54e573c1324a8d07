"""Operators resolve messages whose outcome is unknown over HTTP, as `bisnesctl dead-letters resolve` does."""

import contextlib

import pytest
from uuid_utils import uuid7

from services.database.connection import Database
from services.message import Status
from services.outbox import resolutions
from tests.support.api import COMPANY, KEY, OPERATOR_KEY, OTHER, add_company, api, refusal, settings_for
from tests.support.outbox import accept, entry, execute, outbox, result

REASON = "the connection was cut"


@pytest.fixture
def settings(database, tmp_path):
    add_company(database)
    return settings_for(database, tmp_path)


@pytest.fixture
def connection(settings):
    with contextlib.closing(Database(settings.database_dsn).connect()) as opened:
        execute(opened, "INSERT INTO event_feed (company_id) VALUES (%s)", (COMPANY,))
        yield opened


@pytest.fixture
def client(settings):
    with api(settings) as (_, client):
        yield client


@pytest.fixture
def bot(connection):
    return execute(connection, "SELECT id FROM phone_configs WHERE company_id = %s AND phone_index = 0", (COMPANY,))[0][
        0
    ]


def unknown(connection, bot):
    """A message that may have been sent; returns its id."""
    accept(connection, entry(bot))
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed, Status.UNKNOWN, code="no_answer", error=REASON)])
    return claimed.message_id


def result_of(connection):
    return [row[0] for row in execute(connection, "SELECT status::text FROM outbox ORDER BY id")]


def resolve(client, message, decision, company=COMPANY, key=OPERATOR_KEY, **more):
    address = f"/api/messages/resolve/{company}/{message}"
    return client.post(address, json={"as": decision} | more, headers={"X-Api-Key": key})


@pytest.mark.parametrize("decision", ["sent", "failed"])
def test_a_message_is_recorded_as_an_operator_decided(client, connection, bot, decision):
    message = unknown(connection, bot)
    answer = resolve(client, message, decision)
    assert (answer.status_code, answer.get_json()) == (202, {"success": True, "messageId": message, "as": decision})
    assert resolutions.record_resolutions(connection, outbox()) == 1
    assert result_of(connection) == [decision]
    events = execute(connection, "SELECT payload ->> 'status' FROM event WHERE name = 'message.ack' ORDER BY seq")
    assert [row[0] for row in events] == ["unknown", decision]


def test_a_message_is_sent_again(client, connection, bot):
    message = unknown(connection, bot)
    assert resolve(client, message, "again").status_code == 202
    (claimed,) = outbox().claim(connection, 10)
    assert claimed.message_id == message


def test_only_an_operator_may_decide(client, connection, bot):
    message = unknown(connection, bot)
    assert refusal(resolve(client, message, "sent", key=KEY)) == (403, "foreign_company")
    assert refusal(resolve(client, message, "sent", key="bk_wrong")) == (401, "invalid_key")
    assert result_of(connection) == ["unknown"]
    assert resolutions.record_resolutions(connection, outbox()) == 0


def test_a_message_of_another_company_and_one_that_does_not_exist_are_not_found(client, connection, bot):
    message = unknown(connection, bot)
    assert refusal(resolve(client, message, "sent", company=OTHER)) == (404, "unknown_message")
    assert refusal(resolve(client, uuid7(), "sent")) == (404, "unknown_message")
    assert refusal(resolve(client, "wamid.two", "sent")) == (404, "unknown_message")
    assert resolutions.record_resolutions(connection, outbox()) == 0


@pytest.mark.parametrize("decision", ["sent", "failed", "again"])
def test_a_message_whose_outcome_is_known_is_left_alone(client, connection, bot, decision):
    accept(connection, waiting := entry(bot))
    answer = resolve(client, waiting.message_id, decision)
    assert refusal(answer) == (409, "not_unknown")
    assert "queued" in answer.get_json()["error"]
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed)])
    assert refusal(resolve(client, waiting.message_id, decision)) == (409, "not_unknown")
    assert result_of(connection) == ["sent"]


def test_a_message_of_a_removed_bot_cannot_be_sent_again(client, connection, bot):
    message = unknown(connection, bot)
    execute(connection, "DELETE FROM phone_configs WHERE id = %s", (bot,))
    assert refusal(resolve(client, message, "again")) == (404, "unknown_bot")
    assert resolve(client, message, "failed").status_code == 202
    assert resolutions.record_resolutions(connection, outbox()) == 1
    assert result_of(connection) == ["failed"]


def test_another_decision_is_refused_by_name(client, connection, bot):
    message = unknown(connection, bot)
    assert refusal(resolve(client, message, "lost")) == (400, "invalid_request")
    assert refusal(resolve(client, message, "sent", dryRun=True)) == (400, "invalid_request")
    address = f"/api/messages/resolve/{COMPANY}/{message}"
    assert refusal(client.post(address, json={}, headers={"X-Api-Key": OPERATOR_KEY})) == (400, "invalid_request")
    assert result_of(connection) == ["unknown"]
