"""Operators and callers see that a provider is unavailable, or that a number is held."""

import time

import pytest
import requests

from bisnesctl.bots.check_records import troubled
from bisnesctl.health.verdict import HealthFinding, Verdict, findings_of_bots, in_words, judge
from services.api.schemas.base import Accepted
from services.api.schemas.bots import BotList
from services.message import Scope, Status, StatusUpdate
from services.outbox import holds, message_status
from services.outbox.outcome_policy import Answer, Fault, Hold, Pauses
from tests.integration.api.test_chats import get, one, text
from tests.support.api import CHAT, COMPANY, KEY, serving
from tests.support.outbox import accept, apply_statuses, entry, execute, outbox, result

REASON = "Failed to connect to graph.facebook.com port 443"


def begin(connection, bot, lasts=True):
    """An outage of a number, for longer than a blip."""
    holds.note_outages(connection, [Fault(bot, "network", REASON, probe=False)], Pauses())
    if lasts:
        execute(
            connection, "UPDATE bot_pace SET outage_since = now() - interval '90 seconds' WHERE bot_id = %s", (bot,)
        )
        holds.note_outages(connection, [Fault(bot, "network", REASON, probe=True)], Pauses())


def bot_of(connection, phone=0):
    return execute(
        connection, "SELECT id FROM phone_configs WHERE company_id = %s AND phone_index = %s", (COMPANY, phone)
    )[0][0]


def test_a_message_says_why_it_does_not_leave(client, connection):
    message_id = text(client)
    assert (one(client, message_id)["status"], one(client, message_id)["hold"]) == ("queued", None)
    begin(connection, bot_of(connection))
    shown = one(client, message_id)
    assert shown["status"] == "waiting"
    assert shown["hold"]["reason"] == f"network: {REASON}"
    assert shown["hold"]["needsOperator"] is False
    assert shown["hold"]["since"].endswith("Z")
    assert shown["hold"]["until"].endswith("Z")
    assert shown["hold"]["since"] < shown["hold"]["until"]
    holds.note_outages(connection, [Answer(bot_of(connection), sent=True)], Pauses())
    assert one(client, message_id)["hold"] is None


def test_the_messages_of_a_held_number_wait_with_its_reason_and_no_others(client, connection):
    held, behind, free = text(client), text(client), text(client, phone_index=1)
    holds.hold(connection, [Hold(bot_of(connection), Scope.BOT, None, "190: the token has expired")])
    for message_id in (held, behind):
        shown = one(client, message_id)
        assert shown["status"] == "waiting"
        assert shown["hold"].pop("since").endswith("Z")
        assert shown["hold"] == {"reason": "190: the token has expired", "needsOperator": True, "until": None}
    assert (one(client, free)["status"], one(client, free)["hold"]) == ("queued", None)
    page = get(client, f"/api/v2/messages/{COMPANY}/{CHAT}").json["messages"]
    assert [each["status"] for each in page] == ["queued", "waiting", "waiting"]


def test_what_was_sent_is_not_held_any_more(client, connection):
    message_id = text(client)
    (claimed,) = outbox().claim(connection, 1)
    outbox().record(connection, [result(claimed)])
    begin(connection, bot_of(connection))
    assert one(client, message_id)["hold"] is None


def send(url, wait):
    answer = requests.post(
        f"{url}/api/v2/messages/text/{COMPANY}/{CHAT}?wait={wait}",
        json={"message": "Hi"}, headers={"X-Api-Key": KEY}, timeout=90,
    )  # fmt: skip
    assert answer.status_code == 202
    Accepted.model_validate(answer.json(), extra="forbid")
    return answer.json()


def test_a_caller_that_waits_learns_the_hold_of_its_message(context, connection):
    begin(connection, bot_of(connection))
    with serving(context.settings) as url:
        answer = send(url, 0.3)
        assert (answer["status"], answer["hold"]["needsOperator"]) == ("queued", False)
        assert REASON in answer["hold"]["reason"]
        holds.hold(connection, [Hold(bot_of(connection), Scope.BOT, None, "190: expired")])
        answer = send(url, 30)  # and does not wait for what nobody does
        assert (answer["status"], answer["hold"]["reason"]) == ("waiting", "190: expired")
    message_id = answer["messageId"]
    assert message_status.statuses_of(connection, [message_id])[message_id].status is Status.WAITING


def test_a_number_shows_its_outage(client, connection):
    begin(connection, bot_of(connection))
    found = get(client, "/api/bots")
    BotList.model_validate(found.json, extra="forbid")
    shown, other = found.json["bots"]
    assert (shown["outage"]["code"], shown["outage"]["reason"]) == ("network", REASON)
    assert shown["held"]["reason"] == f"network: {REASON}"
    assert other["outage"] is None


def test_an_outage_that_may_be_over_is_not_shown(client, connection):
    """All waiting messages were refused for their own reasons or failed, so no send ends the outage."""
    begin(connection, bot_of(connection))
    execute(connection, "UPDATE bot_pace SET outage_seen = now() - interval '1 hour', held_until = now()")
    assert get(client, "/api/bots").json["bots"][0]["outage"] is None
    text(client)
    assert get(client, "/api/bots").json["bots"][0]["outage"]["code"] == "network"


@pytest.fixture
def settings(context):
    return context.settings


def test_an_outage_whose_pause_an_operator_ended_is_shown(client, connection, settings):
    text(client)
    begin(connection, bot_of(connection))
    execute(connection, "SELECT release_bot(%s)", (bot_of(connection),))
    (trouble,) = troubled(settings)
    assert "; next attempt now; 1 message waits" in trouble.reason


def test_the_time_of_an_outage_is_that_of_this_machine_with_its_zone(client, connection, settings, monkeypatch):
    text(client)
    begin(connection, bot_of(connection))
    monkeypatch.setenv("TZ", "Asia/Kuala_Lumpur")
    time.tzset()
    try:
        (trouble,) = troubled(settings)
        [(since,)] = execute(
            connection,
            "SELECT extract(epoch FROM outage_since)::float FROM bot_pace WHERE bot_id = %s",
            (bot_of(connection),),
        )
        shown = time.strftime("%H:%M %Z", time.localtime(since))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert trouble.reason.startswith(f"nothing has been sent since {shown}: ")


def test_an_outage_that_lasts_is_critical_and_says_how_many_wait(client, connection, settings):
    for _ in range(3):
        text(client)
    begin(connection, bot_of(connection), lasts=False)
    assert troubled(settings) == []
    begin(connection, bot_of(connection))
    (trouble,) = troubled(settings)
    assert (trouble.name, trouble.status) == ("0128-0", "unavailable")
    assert trouble.reason.startswith("nothing has been sent since ")
    assert f": network: {REASON}; next attempt " in trouble.reason
    assert trouble.reason.endswith("; 3 messages wait")


def test_an_outage_without_waiting_messages_or_that_is_over_is_not_shown(client, connection, settings):
    begin(connection, bot_of(connection))
    assert troubled(settings) == []
    text(client)
    assert len(troubled(settings)) == 1
    execute(connection, "UPDATE bot_pace SET outage_seen = now() - interval '1 hour'")
    assert troubled(settings) == []


def test_an_operators_hold_is_shown_rather_than_an_outage(client, connection, settings):
    text(client)
    begin(connection, bot_of(connection))
    holds.hold(connection, [Hold(bot_of(connection), Scope.BOT, None, "190: expired")])
    (trouble,) = troubled(settings)
    assert (trouble.status, trouble.reason) == ("waiting", "190: expired")


def test_messages_without_a_report_are_a_warning_until_a_report_arrives_or_an_operator_decides(
    client, connection, settings
):
    for _ in range(2):
        text(client)
        (claimed,) = outbox().claim(connection, 1)
        outbox().record(connection, [result(claimed, Status.UNKNOWN, error="reset")])
    assert troubled(settings) == []
    execute(connection, "UPDATE unknown_message SET since = now() - interval '10 minutes'")
    (trouble,) = troubled(settings)
    assert (trouble.name, trouble.status) == ("0128-0", "warning")
    assert trouble.reason.startswith("2 messages may have been sent")
    apply_statuses(connection, StatusUpdate("wamid.1", Status.DELIVERED, 1.0, claimed.message_id))
    assert troubled(settings)[0].reason.startswith("1 message may")
    execute(connection, "UPDATE unknown_message SET since = now() - interval '2 days'")
    assert troubled(settings)[0].hint == "bisnesctl dead-letters list --kind unknown"
    execute(connection, "UPDATE unknown_message SET resolution = 'failed'")
    assert troubled(settings) == []


def test_many_numbers_with_the_same_outage_are_one_line(connection, settings):
    for phone in range(2, 12):
        execute(
            connection,
            "INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id)"
            " VALUES (%s, %s, 'meta_direct', %s)",
            (COMPANY, phone, f"9{phone}"),
        )
    for phone in range(12):
        bot = bot_of(connection, phone)
        accept(connection, entry(bot))
        begin(connection, bot)
    (trouble,) = troubled(settings)
    assert trouble.name == "0128-0 and 11 more"
    assert trouble.reason.endswith("; 12 messages wait")


def test_the_probe_is_critical_while_nothing_is_sent(client, connection, settings):
    text(client)
    begin(connection, bot_of(connection))
    findings = findings_of_bots(troubled(settings))
    assert [type(each) for each in findings] == [HealthFinding]
    assert judge(findings) is Verdict.CRITICAL
    assert "bot 0128-0 unhealthy (unavailable: nothing has been sent since" in in_words(findings)[0]
