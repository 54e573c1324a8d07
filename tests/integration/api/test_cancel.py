"""`DELETE` of a message that was not sent yet cancels it."""

import pytest

from services.api.schemas.base import Accepted
from services.message import Scope
from services.outbox import holds
from services.outbox.outcome_policy import Hold
from tests.support.api import CHAT, COMPANY, KEY, OTHER_KEY, outbox, refusal
from tests.support.outbox import execute, result


@pytest.fixture(autouse=True)
def feed(connection):
    execute(connection, "INSERT INTO event_feed (company_id) VALUES (%s)", (COMPANY,))


def text(client, **fields):
    path = f"/api/v2/messages/text/{COMPANY}/{CHAT}"
    return client.post(path, json={"message": "Hello"} | fields, headers={"X-Api-Key": KEY}).json["messageId"]


def delete(client, message_id, key=KEY, chat=CHAT, **fields):
    path = f"/api/v2/messages/{COMPANY}/{chat}/{message_id}"
    return client.delete(path, json=fields, headers={"X-Api-Key": key})


def shown(client, message_id):
    path = f"/api/v2/messages/{COMPANY}/{CHAT}/{message_id}"
    return client.get(path, headers={"X-Api-Key": KEY}).json


@pytest.mark.parametrize("held", [False, True])
def test_a_message_that_waits_is_cancelled_and_the_next_one_leaves(client, connection, held):
    first, second = text(client), text(client)
    if held:
        bot = execute(connection, "SELECT bot_id FROM outbox LIMIT 1")[0][0]
        holds.hold(connection, [Hold(bot, Scope.BOT, None, "190: expired", code="190")])
    answer = delete(client, first)
    assert answer.status_code == 200
    Accepted.model_validate(answer.json, extra="forbid")
    assert (answer.json["messageId"], answer.json["status"]) == (first, "failed")
    assert shown(client, first)["error"]["code"] == "cancelled"
    if held:
        holds.lift(connection, [bot])
    assert [message.message_id for message in outbox().claim(connection, 10)] == [second]
    acks = execute(connection, "SELECT payload FROM event WHERE name = 'message.ack'")
    assert [(payload["id"], payload["status"], payload["error"]["code"]) for (payload,) in acks] == [
        (first, "failed", "cancelled")
    ]


def test_a_message_in_the_hands_of_a_worker_is_not_cancelled(client, connection):
    message_id = text(client)
    (claimed,) = outbox().claim(connection, 10)
    assert refusal(delete(client, message_id))[0] == 409
    outbox().record(connection, [result(claimed, claim=outbox().worker)])
    assert shown(client, message_id)["status"] == "sent"


def test_a_message_is_cancelled_once_and_by_its_company_alone(client, connection):
    message_id = text(client)
    assert refusal(delete(client, message_id, key=OTHER_KEY))[0] in (403, 404)
    assert refusal(delete(client, message_id, chat="60111111111")) == (404, "unknown_message")
    assert refusal(delete(client, message_id, phoneIndex=1))[0] == 404
    assert delete(client, message_id).status_code == 200
    assert refusal(delete(client, message_id))[0] == 409
    assert execute(connection, "SELECT pending FROM lane") == [(0,)]
