"""The queue over HTTP: an operator's key sees and changes everything, a company's key what belongs to the company."""

import pytest
from uuid_utils import uuid7

from services.message import Scope, Status
from services.outbox import holds
from services.outbox.outcome_policy import Hold
from tests.support.api import CHAT, COMPANY, KEY, OPERATOR_KEY, OTHER, OTHER_KEY, outbox, refusal
from tests.support.outbox import execute, result, status_of


@pytest.fixture(autouse=True)
def feed(connection):
    execute(connection, "INSERT INTO event_feed (company_id) VALUES (%s)", (COMPANY,))


def text(client, key=KEY, company=COMPANY, chat=CHAT):
    path = f"/api/v2/messages/text/{company}/{chat}"
    return client.post(path, json={"message": "Hello"}, headers={"X-Api-Key": key}).json["messageId"]


def get(client, path, key=KEY, **query):
    return client.get(f"/api/v2/queue/{path}", query_string=query, headers={"X-Api-Key": key})


def post(client, path, key=KEY, **body):
    return client.post(f"/api/v2/queue/{path}", json=body, headers={"X-Api-Key": key})


def test_each_company_sees_its_own_messages(client, connection):
    mine, others = text(client), text(client, OTHER_KEY, OTHER)
    assert [each["messageId"] for each in get(client, "messages").json["messages"]] == [mine]
    assert len(get(client, "messages", OPERATOR_KEY).json["messages"]) == 2
    assert get(client, "stats").json["total"]["waiting"] == 1
    assert get(client, "stats", OPERATOR_KEY).json["queues"]["meta-messages"]["waiting"] == 2
    assert get(client, "stats", OPERATOR_KEY, company=OTHER, phoneIndex=0).json["total"]["waiting"] == 1
    assert refusal(get(client, "stats", company=OTHER)) == (403, "foreign_company")
    assert refusal(get(client, "messages", company=OTHER)) == (403, "foreign_company")
    for answer in (get(client, f"messages/{others}"), *(post(client, f"messages/{others}/{verb}") for verb in
                   ("retry", "cancel"))):  # fmt: skip
        assert refusal(answer) == (404, "unknown_message")
    assert status_of(connection, others) == "queued"
    assert get(client, f"messages/{others}", OPERATOR_KEY).json["companyId"] == OTHER


def test_the_list_is_filtered_and_paged(client, connection):
    ids = [text(client, chat=chat) for chat in ("60111111111", "60111111111", "60122222222")]
    page = get(client, "messages", limit=2).json
    rest = get(client, "messages", limit=2, after=page["nextAfter"]).json
    assert [each["messageId"] for each in page["messages"] + rest["messages"]] == ids
    assert rest["nextAfter"] is None
    found = get(client, "messages", chatId="+60122222222", state="waiting").json["messages"]
    assert [each["messageId"] for each in found] == ids[2:]
    assert get(client, "messages", olderThan=3600).json["messages"] == []
    assert refusal(get(client, "messages", state="lost")) == (400, "invalid_request")
    assert refusal(get(client, "messages", OPERATOR_KEY, phoneIndex=0)) == (400, "invalid_request")
    assert refusal(get(client, "stats", phoneIndex=9)) == (404, "unknown_bot")


def test_a_message_that_waits_is_cancelled_once(client, connection):
    first, second = text(client), text(client)
    assert post(client, f"messages/{first}/cancel").json["messageId"] == first
    assert refusal(post(client, f"messages/{first}/cancel")) == (409, "not_waiting")
    acks = execute(connection, "SELECT payload FROM event WHERE name = 'message.ack'")
    assert [(each["id"], each["status"], each["error"]["code"]) for (each,) in acks] == [(first, "failed", "cancelled")]
    (claimed,) = outbox().claim(connection, 10)
    assert claimed.message_id == second
    assert refusal(post(client, f"messages/{second}/cancel", OPERATOR_KEY)) == (409, "not_waiting")
    assert refusal(post(client, f"messages/{uuid7()}/cancel")) == (404, "unknown_message")


def test_a_failed_message_is_retried_and_others_are_refused(client, connection):
    temporary, permanent = text(client, chat="60111111111"), text(client, chat="60122222222")
    codes = {temporary: "network", permanent: "131026"}
    for claimed in outbox().claim(connection, 10):
        outbox().record(
            connection, [result(claimed, Status.FAILED, claim=outbox().worker, code=codes[claimed.message_id])]
        )
    assert post(client, f"messages/{temporary}/retry").status_code == 200
    assert refusal(post(client, f"messages/{permanent}/retry")) == (409, "not_retryable")
    shown = get(client, f"messages/{temporary}").json
    assert (shown["state"], shown["timeline"][-1]["code"]) == ("waiting", "retried")


def test_a_paused_bot_accepts_and_sends_nothing(client, connection):
    paused = post(client, "pause", phoneIndex=0, reason="price list", forSeconds=3600).json
    assert (paused["bots"], paused["inHand"]) == ([{"companyId": COMPANY, "phoneIndex": 0}], 0)
    message_id = text(client)
    assert outbox().claim(connection, 10) == []
    path = f"/api/v2/messages/{COMPANY}/{CHAT}/{message_id}"
    shown = client.get(path, headers={"X-Api-Key": KEY}).json
    assert shown["status"] == "waiting"
    assert (shown["hold"]["reason"], shown["hold"]["needsOperator"]) == ("paused by the company: price list", False)
    bot = client.get(f"/api/bots/{COMPANY}/0", headers={"X-Api-Key": KEY}).json["bot"]
    assert bot["paused"]["reason"] == "price list"
    assert post(client, "resume", phoneIndex=0).json["bots"] == paused["bots"]
    assert post(client, "resume", phoneIndex=0).json["bots"] == []
    assert len(outbox().claim(connection, 10)) == 1


def test_a_company_neither_changes_nor_ends_an_operators_pause(client, connection):
    """Of several bots, those that no operator paused change."""
    post(client, "pause", OPERATOR_KEY, company=COMPANY, phoneIndex=0, reason="unpaid")
    for action in ("pause", "resume"):
        assert refusal(post(client, action, phoneIndex=0)) == (409, "paused_by_operator")
    reasons = "SELECT paused_reason, paused_by_company FROM bot_pace WHERE paused_at IS NOT NULL ORDER BY bot_id"
    assert execute(connection, reasons) == [("unpaid", False)]
    both = post(client, "pause", reason="holiday").json["bots"]
    assert both == [{"companyId": COMPANY, "phoneIndex": 1}]
    assert execute(connection, reasons) == [("unpaid", False), ("holiday", True)]
    assert post(client, "resume").json["bots"] == both
    post(client, "pause", phoneIndex=1)
    post(client, "pause", OPERATOR_KEY, company=COMPANY, phoneIndex=1)  # an operator may take it over
    assert refusal(post(client, "resume", phoneIndex=1)) == (409, "paused_by_operator")
    assert len(post(client, "resume", OPERATOR_KEY, company=COMPANY).json["bots"]) == 2
    assert post(client, "resume").json["bots"] == []


def test_bots_of_another_company_are_not_paused(client, connection):
    assert refusal(post(client, "pause", company=OTHER)) == (403, "foreign_company")
    assert refusal(post(client, "pause", OPERATOR_KEY)) == (400, "invalid_request")
    assert refusal(post(client, "pause", phoneIndex=7)) == (404, "unknown_bot")
    assert execute(connection, "SELECT count(*) FROM bot_pace WHERE paused_at IS NOT NULL") == [(0,)]
    assert len(post(client, "pause", OPERATOR_KEY, company=COMPANY).json["bots"]) == 2


def test_a_queued_message_of_a_held_or_paused_number_is_deleted(client, connection):
    bot = execute(connection, "SELECT id FROM phone_configs WHERE company_id = %s AND phone_index = 0", (COMPANY,))[0][
        0
    ]
    post(client, "pause", phoneIndex=0)
    holds.hold(connection, [Hold(bot, Scope.BOT, None, "190: expired", code="190")])
    message_id = text(client)
    answer = client.delete(f"/api/v2/messages/{COMPANY}/{CHAT}/{message_id}", json={}, headers={"X-Api-Key": KEY})
    assert (answer.status_code, answer.json["status"]) == (200, "failed")
