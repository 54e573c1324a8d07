"""The audit trail of the API: every request that changes a configuration, with the key and the outcome."""

import pytest

from bisnesctl.audit import trail
from services.api.app import create_app
from services.api.auth import is_recorded
from services.http_server.body import MAX_BODY
from tests.support.api import CHAT, COMPANY, KEY, OPERATOR_KEY, OTHER, OTHER_KEY

#: The resources whose requests send messages, which have a history of their own.
MESSAGES = {"messages", "files", "reactions"}


@pytest.fixture
def records(context):
    """The records that were made, oldest first."""
    return lambda: [record for _, record in trail.waiting(context.settings.home)]


def test_every_route_that_changes_something_is_recorded(context):
    app = create_app(context)
    changing = {
        rule.endpoint.partition(".")[0]
        for rule in app.url_map.iter_rules()
        if (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
    }
    assert {name for name in changing if not is_recorded(app.blueprints[name])} == MESSAGES & changing
    assert {"bots", "bot", "session", "webhooks"} <= changing


def test_a_change_is_recorded_with_the_key_and_the_address(client, records):
    body = {"url": "https://example.com/hook?sig=s3cret", "events": ["message"], "secret": "s3cret" * 6}
    answer = client.post("/api/webhooks", json=body, headers={"X-Api-Key": KEY})
    assert answer.status_code == 201, answer.json
    (found,) = records()
    assert (found.source, found.actor, found.origin) == ("api", f"key {KEY[:6]}…", "127.0.0.1")
    assert (found.action, found.company, found.outcome) == ("POST /api/webhooks", COMPANY, "ok")
    assert found.arguments["url"] == "https://example.com/hook?sig=***"
    assert found.arguments["events"] == ["message"]
    assert b"s3cret" not in found.content()


@pytest.mark.parametrize(
    ("key", "path", "body", "code"),
    [
        (KEY, "/api/webhooks", {"url": "no url"}, "invalid_request"),
        (KEY, "/api/webhooks", "no object", "invalid_json"),
        (OTHER_KEY, f"/api/bots/{COMPANY}/0/verify", None, "foreign_company"),
        (OPERATOR_KEY, f"/api/bots/{COMPANY}/99/verify", None, "unknown_bot"),
        (OPERATOR_KEY, f"/api/sessions/{COMPANY}/0/start", None, "unsupported_by_channel"),
    ],
)
def test_a_refused_change_is_recorded_with_its_code(client, records, key, path, body, code):
    answer = client.post(path, json=body, headers={"X-Api-Key": key})
    (found,) = records()
    assert (found.outcome, found.code) == ("failed", answer.json["code"])
    assert found.code == code
    assert found.company == (OTHER if key == OTHER_KEY and "webhooks" in path else COMPANY)


def test_messages_reads_and_strangers_leave_no_record(client, records):
    headers = {"X-Api-Key": KEY}
    client.post(f"/api/sendText/{COMPANY}/{CHAT}", json={"phoneIndex": 0, "text": "hello"}, headers=headers)
    client.get("/api/webhooks", headers=headers)
    client.post("/api/webhooks", json={}, headers={"X-Api-Key": "bk_nobody"})
    client.post("/api/nothing", json={}, headers=headers)
    assert records() == []


def test_a_request_is_answered_although_its_record_cannot_be_stored(client, context):
    context.settings.home.mkdir(parents=True, exist_ok=True)
    (context.settings.home / trail.FOLDER).write_text("in the way")
    body = {"url": "https://example.com/hook", "events": ["message"]}
    assert client.post("/api/webhooks", json=body, headers={"X-Api-Key": KEY}).status_code == 201


def test_a_refused_body_that_nobody_can_read_is_recorded_too(client, records):
    body = b"{}".ljust(MAX_BODY + 1)
    headers = {"X-Api-Key": KEY, "Content-Type": "application/json"}
    assert client.post("/api/webhooks", data=body, headers=headers).status_code == 413
    (found,) = records()
    assert (found.outcome, found.code) == ("failed", "too_large")
    assert found.arguments == {"body": "Request Entity Too Large"}


def test_a_record_that_cannot_be_made_changes_no_answer(client, records, monkeypatch):
    monkeypatch.setattr("services.api.audit.masking.masked", lambda _: 1 / 0)
    body = {"url": "https://example.com/hook", "events": ["message"], "secret": "s3cret" * 6}
    assert client.post("/api/webhooks", json=body, headers={"X-Api-Key": KEY}).status_code == 201
    assert records() == []
