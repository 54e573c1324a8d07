"""The hot path on ASGI, over real HTTP: it says the same as the Flask route, and everything else passes through it."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from services.api.app import create_app
from services.api.context import connect
from services.api.messages.request_fields import MAX_WAIT_SECONDS
from tests.support.api import (
    CHAT,
    COMPANY,
    KEY,
    OPERATOR_KEY,
    OTHER_KEY,
    REVOKED_KEY,
    Quiet,
    add_company,
    outbox,
    serving,
    settings_for,
)
from tests.support.outbox import execute, result
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def settings(database, tmp_path):
    add_company(database)
    return settings_for(database, tmp_path)


@pytest.fixture
def context(settings):
    context = connect(settings, Quiet())
    yield context
    context.close()


@pytest.fixture
def server(settings):
    """Base URL of the ASGI application under uvicorn."""
    with serving(settings) as url:
        yield url


@pytest.fixture
def connection(context):
    connection = context.database.connect()
    yield connection
    connection.close()


TEXT = json.dumps({"message": "Hello"})
REQUESTS = [
    ({}, TEXT, ""),
    ({"X-Api-Key": "bk_nobody"}, TEXT, ""),
    ({"X-Api-Key": REVOKED_KEY}, TEXT, ""),
    ({"X-Api-Key": OTHER_KEY}, TEXT, ""),
    ({"X-Api-Key": OTHER_KEY}, "{", ""),
    ({"X-Api-Key": KEY}, "{", ""),
    ({"X-Api-Key": KEY}, "[]", ""),
    ({"X-Api-Key": KEY}, "{}", ""),
    ({"X-Api-Key": KEY}, json.dumps({"message": "x" * 4097}), ""),
    ({"X-Api-Key": KEY}, json.dumps({"message": 7}), ""),
    ({"X-Api-Key": KEY}, json.dumps({"message": "x", "phoneIndex": 7}), ""),
    ({"X-Api-Key": KEY}, json.dumps({"message": "x", "quotedMessageId": "wamid.none"}), ""),
    ({"X-Api-Key": KEY}, TEXT, "?wait=soon"),
    ({"X-Api-Key": KEY}, json.dumps({"message": "x", "more": "y" * (1 << 20)}), ""),
    ({"X-Api-Key": KEY, "Idempotency-Key": "k" * 256}, TEXT, ""),
]


@pytest.mark.parametrize(("headers", "body", "query"), REQUESTS)
def test_a_refusal_is_the_same_as_flasks(server, context, headers, body, query):
    path = f"/api/v2/messages/text/{COMPANY}/{CHAT}{query}"
    headers = {"Content-Type": "application/json"} | headers
    fast = requests.post(server + path, data=body, headers=headers, timeout=HANG_SECONDS)
    slow = create_app(context).test_client().post(path, data=body, headers=headers)
    assert (fast.status_code, fast.json()["code"]) == (slow.status_code, slow.get_json()["code"])
    assert fast.status_code >= 400
    assert fast.json()["success"] is False
    assert fast.json()["error"]


@pytest.mark.parametrize(
    ("chat", "status"),
    [(f"+{CHAT}", 202), (f"{CHAT}@c.us", 202), (f"{COMPANY}-{CHAT}", 202), ("12@g.us", 409), ("nobody", 400)],
)
def test_a_chat_id_is_accepted_in_every_form(server, chat, status):
    url = f"{server}/api/v2/messages/text/{COMPANY}/{chat}"
    answer = requests.post(url, data=TEXT, headers={"Authorization": f"Bearer {KEY}"}, timeout=HANG_SECONDS)
    assert answer.status_code == status
    if status == 202:
        assert answer.json()["chatId"] == CHAT


def test_concurrent_sends_are_all_stored_and_an_operator_may_send_for_any_company(server, connection):
    def send(number):
        body = {"message": f"{number}", "phoneIndex": str(number % 2)}
        url = f"{server}/api/v2/messages/text/{COMPANY}/6011111{number:04}"
        return requests.post(url, json=body, headers={"X-Api-Key": OPERATOR_KEY}, timeout=HANG_SECONDS).json()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(100)))
    assert {answer["status"] for answer in answers} == {"queued"}
    stored = {row[0] for row in execute(connection, "SELECT message_id::text FROM outbox")}
    assert stored == {answer["messageId"] for answer in answers}


def test_an_idempotency_key_is_kept_and_a_different_body_under_it_refused(server):
    url, headers = f"{server}/api/v2/messages/text/{COMPANY}/{CHAT}", {"X-Api-Key": KEY, "Idempotency-Key": "order-17"}
    first = requests.post(url, data=TEXT, headers=headers, timeout=HANG_SECONDS)
    again = requests.post(url, data=TEXT, headers=headers, timeout=HANG_SECONDS)
    other = requests.post(url, json={"message": "Bye"}, headers=headers, timeout=HANG_SECONDS)
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


def test_a_caller_that_waits_gets_the_outcome(server, connection):
    def deliver(text, **outcome):
        while not (claimed := outbox().claim(connection, 1)):
            time.sleep(0.01)
        assert claimed[0].payload["message"] == text
        mine = outbox()
        mine.record(connection, [result(claimed[0], claim=mine.worker, **outcome)])

    def wait(text):
        url = f"{server}/api/v2/messages/text/{COMPANY}/{CHAT}"
        return requests.post(
            url,
            json={"message": text},
            headers={"X-Api-Key": KEY},
            params={"wait": MAX_WAIT_SECONDS},
            timeout=HANG_SECONDS,
        )

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait, "good")
        deliver("good")
        assert (waiting.result().status_code, waiting.result().json()["status"]) == (200, "sent")
        waiting = pool.submit(wait, "bad")
        deliver("bad", status="failed", code="131026", error="not on WhatsApp")
        body = waiting.result().json()
    assert (waiting.result().status_code, body["code"], body["providerCode"]) == (502, "send_failed", "131026")
    assert body["error"] == "not on WhatsApp"


def test_all_other_requests_are_answered_by_flask(server):
    assert requests.get(f"{server}/health", timeout=HANG_SECONDS).json()["success"] is True
    assert requests.get(f"{server}/openapi/openapi.json", timeout=HANG_SECONDS).status_code == 200
    for path in ("/api/v2/messages/text/0128", "/api/v2/messages/text/0128/1/2", "/api/v2/messages/text/0128/"):
        assert requests.post(server + path, data=TEXT, timeout=HANG_SECONDS).status_code in (401, 404, 405)


def test_an_unavailable_database_is_a_503_and_nothing_was_stored(server, postgres, connection):
    url, headers = f"{server}/api/v2/messages/text/{COMPANY}/{CHAT}", {"X-Api-Key": KEY}
    assert requests.post(url, data=TEXT, headers=headers, timeout=HANG_SECONDS).status_code == 202
    postgres.stop()
    try:
        refused = requests.post(url, data=TEXT, headers=headers, timeout=HANG_SECONDS)
    finally:
        postgres.start()
    assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert int(refused.headers["Retry-After"]) > 0
