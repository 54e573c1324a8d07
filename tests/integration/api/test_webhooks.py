"""Webhooks over HTTP: registered, shown without secrets, changed, rotated, replayed; each company has its own."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bisnesctl.encryption import EncryptionError, decrypt
from services.api.openapi import Problem
from services.api.schemas.webhooks import DeliveryPage, OneWebhook, Replayed, WebhookList, WebhookWithSecret
from services.events import store, webhooks
from services.events.webhooks import secret_row
from services.http_server.error_codes import ErrorCode
from tests.support.api import COMPANY, KEY, OPERATOR_KEY, OTHER, OTHER_KEY, add_company, settings_for
from tests.support.api import api as serve
from tests.support.outbox import execute
from tests.support.remote.customer import raise_events

PATH = "/api/webhooks"
URL = "https://customer.example/hook"
SECRET = "sixteen characters"
CHAT = "60123456789"
SENDER = "host/events/1"


@pytest.fixture
def api(database, tmp_path):
    """The context and a client."""
    add_company(database)
    with serve(settings_for(database, tmp_path, ALLOWED_NETWORKS="10.1.0.0/16")) as found:
        yield found


@pytest.fixture
def ask(api):
    """Ask the API; gives status and JSON."""

    def ask(method, path="", key=KEY, expected=200, **body):
        answer = api[1].open(f"{PATH}{path}", method=method, json=body or None, headers={"X-Api-Key": key})
        assert answer.status_code == expected, answer.json
        if expected >= 400:
            code = Problem.model_validate(answer.json).code
            assert {each.value: each.status for each in ErrorCode}[code] == expected
        return answer.json

    return ask


@pytest.fixture
def connection(api):
    with api[0].database.connection() as connection:
        yield connection


@pytest.fixture
def webhook(ask):
    """The id of a webhook of the company, which asked for everything."""
    return ask("POST", url=URL, events=["*"], secret=SECRET, expected=201)["webhook"]["id"]


def deliver(connection, **changes):
    """Have everything that is due delivered, or what else is said of it; returns the events' numbers in their order."""
    told = []
    while tasks := store.claim(connection, SENDER, 60, 100):
        told += [(task.chat_id, task.seq) for task in tasks]
        outcome: dict[str, Any] = {"outcome": "delivered", "status": 200} | changes
        results = [store.Result(task.webhook_id, task.chat_id, task.seq, **outcome) for task in tasks]
        assert store.record(connection, SENDER, results) == []
    return told


def pending(connection):
    [(count, in_lanes)] = execute(
        connection,
        "SELECT (SELECT count(*) FROM webhook_delivery WHERE status = 'pending'), sum(pending) FROM webhook_lane",
    )
    assert count == (in_lanes or 0)
    return count


def ids(connection):
    """The ids of the company's events in their order."""
    found = execute(connection, "SELECT event_id FROM event WHERE company_id = %s ORDER BY seq", (COMPANY,))
    return [each for (each,) in found]


def test_a_webhook_is_registered_and_its_secret_shown_once(ask, connection):
    made = ask("POST", url=URL, events=["message.ack", "message", "message"], expected=201)
    WebhookWithSecret.model_validate(made, extra="forbid")
    assert len(made["secret"]) >= 32
    assert made["webhook"]["events"] == ["message", "message.ack"]
    assert made["webhook"]["active"]
    assert made["webhook"]["company"] == COMPANY
    one = ask("GET", f"/{made['webhook']['id']}")
    OneWebhook.model_validate(one, extra="forbid")
    every = ask("GET")
    WebhookList.model_validate(every, extra="forbid")
    assert every["webhooks"] == [one["webhook"]]
    assert made["secret"] not in str(one) + str(every)
    raise_events(connection, 1)
    assert len(ids(connection)) == 1


def test_secrets_are_encrypted_at_rest(ask, api, connection):
    ask("POST", url=URL, events=["*"], secret=SECRET, expected=201)
    [(webhook, stored)] = execute(connection, "SELECT id::text, secret_encrypted FROM webhook")
    assert SECRET not in stored
    key = api[0].settings.encryption_key.get_secret_value()
    assert decrypt(key, stored, secret_row(webhook)) == SECRET
    with pytest.raises(EncryptionError):
        decrypt(key, stored, secret_row("another"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "ftp://customer.example/"}, "https://"),
        ({"url": "https://"}, "https://"),
        ({"url": "https://[::1"}, "cannot be read"),
        ({"url": "https://customer.example:99999/"}, "cannot be read"),
        ({"url": "https://me:word@customer.example/"}, "no user name"),
        ({"url": "https://käufer.example/"}, "ASCII"),
        ({"url": "https://customer.example/a b"}, "ASCII"),
        ({"url": "http://127.0.0.1/"}, "not on the internet"),
        ({"url": "http://localhost:3000/"}, "not on the internet"),
        ({"url": "http://10.2.0.1/"}, "not on the internet"),
        ({"url": "http://169.254.169.254/latest"}, "not on the internet"),
        ({"url": "http://[::ffff:127.0.0.1]/"}, "not on the internet"),
        ({"events": []}, "events"),
        ({"events": ["message", "mesage.ack"]}, "mesage.ack"),
        ({"events": ["nothing"]}, "message.reaction"),
        ({"secret": "short"}, "secret"),
        ({"urls": "x"}, "urls"),
        ({"company": OTHER}, None),
    ],
)
def test_what_cannot_be_is_refused_by_name(ask, fields, says):
    body = {"url": URL, "events": ["*"]} | fields
    said = ask("POST", expected=400 if says else 403, **body)
    assert says is None or says in said["error"]


def test_a_network_that_the_operator_opened_may_be_named(ask):
    ask("POST", url="http://10.1.2.3:8080/hook", events=["*"], expected=201)


def test_an_operator_names_the_company(ask):
    assert "company" in ask("POST", key=OPERATOR_KEY, url=URL, events=["*"], expected=400)["error"]
    made = ask("POST", key=OPERATOR_KEY, url=URL, events=["*"], company=OTHER, expected=201)["webhook"]
    ask("GET", key=OPERATOR_KEY, expected=400)
    assert ask("GET", f"?company={OTHER}", key=OPERATOR_KEY)["webhooks"] == [made]
    assert ask("GET", f"/{made['id']}", key=OPERATOR_KEY)["webhook"] == made
    assert ask("GET")["webhooks"] == []


def test_another_companys_webhook_is_unknown(ask, webhook):
    ask("GET", f"?company={COMPANY}", key=OTHER_KEY, expected=403)
    for method, path, body in (
        ("GET", "", {}),
        ("PATCH", "", {"active": False}),
        ("PUT", "", {"active": False}),
        ("DELETE", "", {}),
        ("POST", "/rotate", {"overlapSeconds": 0}),
        ("GET", "/deliveries", {}),
        ("POST", "/replay", {"since": 0}),
        ("POST", "/test", {}),
    ):
        said = ask(method, f"/{webhook}{path}", key=OTHER_KEY, expected=404, **body)
        assert said["code"] == "unknown_webhook"
    assert ask("GET", f"/{webhook}")["webhook"]["active"]
    ask("GET", "/no-uuid", expected=404)


def test_a_company_has_a_limit_of_webhooks(ask, connection):
    for _ in range(webhooks.MAX_WEBHOOKS):
        ask("POST", url=URL, events=["*"], secret=SECRET, expected=201)
    assert ask("POST", url=URL, events=["*"], expected=409)["code"] == "too_many_webhooks"
    ask("POST", url=URL, events=["*"], key=OTHER_KEY, expected=201)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_changed_webhook_receives_waiting_events_at_once(ask, webhook, connection, method):
    raise_events(connection, 1)
    deliver(connection, outcome="pending", status=500, error="it answered 500")
    execute(connection, "UPDATE webhook SET failures = 9, paused_until = now() + interval '15 minutes'")
    shown = ask("GET", f"/{webhook}")["webhook"]
    assert (shown["failures"], shown["lastError"], shown["pending"]) == (9, "it answered 500", 1)
    assert shown["pausedUntil"] is not None
    changed = ask(method, f"/{webhook}", url=URL + "/2", events=["message"])["webhook"]
    assert (changed["url"], changed["events"], changed["active"]) == (URL + "/2", ["message"], True)
    assert (changed["failures"], changed["pausedUntil"]) == (0, None)
    assert deliver(connection) == [(CHAT, 1)]
    assert ask("GET", f"/{webhook}")["webhook"]["lastDeliveredAt"] is not None
    ask(method, f"/{webhook}", url="http://127.0.0.1/", expected=400)
    assert not ask(method, f"/{webhook}", active=False)["webhook"]["active"]


def test_a_webhook_is_deleted_with_what_waits_for_it(ask, webhook, connection):
    raise_events(connection, 1, 2)
    ask("DELETE", f"/{webhook}")
    ask("GET", f"/{webhook}", expected=404)
    assert pending(connection) == 0
    raise_events(connection, 3)
    assert pending(connection) == 0


def test_a_secret_is_replaced(ask, webhook, connection, api):
    key = api[0].settings.encryption_key.get_secret_value()
    answer = ask("POST", f"/{webhook}/rotate", secret="another secret of 16")
    assert answer["secret"] == "another secret of 16"
    assert answer["webhook"]["previousSecretUntil"] is not None
    [row] = execute(connection, "SELECT secret_encrypted, previous_encrypted FROM webhook")
    assert [decrypt(key, each, secret_row(webhook)) for each in row] == ["another secret of 16", SECRET]
    made = ask("POST", f"/{webhook}/rotate", overlapSeconds=0)
    assert made["secret"] != answer["secret"]
    assert made["webhook"]["previousSecretUntil"] is None


def test_deliveries_are_shown_with_their_results(ask, webhook, connection):
    raise_events(connection, 1, 2)
    deliver(connection, outcome="dead", status=410, error="it answered 410")
    raise_events(connection, 3, chats=("",), name="bot.status")
    every = ask("GET", f"/{webhook}/deliveries")
    DeliveryPage.model_validate(every, extra="forbid")
    assert [(each["event"], each["chatId"], each["status"]) for each in every["deliveries"]] == [
        ("bot.status", None, "pending"),
        ("message", CHAT, "dead"),
        ("message", CHAT, "dead"),
    ]
    dead = every["deliveries"][1]
    assert (dead["attempts"], dead["responseStatus"], dead["error"]) == (1, 410, "it answered 410")
    assert [each["eventId"] for each in every["deliveries"]] == ids(connection)[::-1]
    assert len(ask("GET", f"/{webhook}/deliveries?status=pending")["deliveries"]) == 1
    first = ask("GET", f"/{webhook}/deliveries?limit=2")
    rest = ask("GET", f"/{webhook}/deliveries?limit=2&cursor={first['nextCursor']}")
    assert first["deliveries"] + rest["deliveries"] == every["deliveries"]
    assert rest["nextCursor"] is None
    ask("GET", f"/{webhook}/deliveries?status=lost", expected=400)


def test_one_event_is_told_again(ask, webhook, connection):
    raise_events(connection, 1, 2)
    deliver(connection)
    first, _ = ids(connection)
    answer = ask("POST", f"/{webhook}/replay", eventId=first)
    Replayed.model_validate(answer, extra="forbid")
    assert (answer["count"], answer["next"]) == (1, None)
    assert ask("POST", f"/{webhook}/replay", eventId=first)["count"] == 0
    assert pending(connection) == 1
    assert deliver(connection) == [(CHAT, 1)]
    ask("POST", f"/{webhook}/replay", eventId="evt_none", expected=404)
    ask("POST", f"/{webhook}/replay", expected=400, limit=5)
    ask("POST", f"/{webhook}/replay", expected=400, eventId=first, since=0)


def test_all_events_since_an_event_are_replayed_in_order(ask, webhook, connection):
    raise_events(connection, 1, 2, 3, 4)
    deliver(connection)
    raise_events(connection, 5)
    answer = ask("POST", f"/{webhook}/replay", since=ids(connection)[1])
    assert answer["count"] == 2
    assert pending(connection) == 3
    assert deliver(connection) == [(CHAT, 3), (CHAT, 4), (CHAT, 5)]
    ask("POST", f"/{webhook}/replay", since="evt_none", expected=404)


def test_all_events_since_a_time_are_replayed_to_a_later_webhook(ask, webhook, connection):
    raise_events(connection, 1)
    raise_events(connection, 2, name="message.ack")
    deliver(connection)
    later = ask("POST", url=URL, events=["message.ack"], expected=201)["webhook"]["id"]
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    for since in (an_hour_ago.isoformat(), int(an_hour_ago.timestamp() * 1000), f"{an_hour_ago:%Y-%m-%dT%H:%M:%SZ}"):
        assert ask("POST", f"/{later}/replay", since=since)["count"] == 1
        assert deliver(connection) == [(CHAT, 2)]
    assert ask("POST", f"/{webhook}/replay", since=int(time.time() * 1000) + 60_000)["count"] == 0
    for wrong in ("yesterday", 10**20, "9" * 100):
        ask("POST", f"/{webhook}/replay", since=wrong, expected=400)


def test_a_replay_ends_at_its_limit_and_says_where_to_go_on(ask, webhook, connection, monkeypatch):
    monkeypatch.setattr(webhooks, "REPLAY_BATCH", 2)
    raise_events(connection, *range(7))
    deliver(connection)
    answer = ask("POST", f"/{webhook}/replay", since=0, limit=5)
    assert (answer["count"], answer["next"]) == (5, ids(connection)[4])
    answer = ask("POST", f"/{webhook}/replay", since=answer["next"], limit=5)
    assert (answer["count"], answer["next"]) == (2, None)
    assert pending(connection) == 7
    assert deliver(connection) == [(CHAT, number) for number in range(1, 8)]


def test_a_webhook_is_tried_by_an_event_for_it_alone(ask, webhook, connection):
    ask("POST", url=URL, events=["*"], expected=201)
    execute(connection, "UPDATE webhook SET failures = 5, paused_until = now() + interval '10 minutes'")
    event_id = ask("POST", f"/{webhook}/test", expected=202)["eventId"]
    assert pending(connection) == 1
    [task] = store.claim(connection, SENDER, 60, 100)
    assert (task.webhook_id, task.event.event_id, task.event.name) == (webhook, event_id, "webhook.test")
    assert ids(connection) == [event_id]
    ask("PATCH", f"/{webhook}", active=False)
    assert ask("POST", f"/{webhook}/test", expected=409)["code"] == "webhook_inactive"
