"""The simulator of the Graph API, as a process: what it answers, keeps and reports."""

import signal
import threading

import pytest
import requests

from tests.support.sandbox import Receiver, Sandbox, eventually, free_port
from tests.support.waiting import HANG_SECONDS


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    receiver = Receiver()
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), receiver.port, free_port())
    yield sandbox, receiver
    sandbox.end()
    receiver.close()


@pytest.fixture
def sandbox(stage):
    stage[0].settle()
    stage[0].reset()
    return stage[0]


@pytest.fixture
def receiver(stage):
    return stage[1]


def test_a_message_is_accepted_listed_and_reported(sandbox, receiver):
    answer = sandbox.send("first")
    assert answer.status_code == 200
    assert answer.json()["contacts"] == [{"input": "+60123456789", "wa_id": "60123456789"}]
    assert eventually(lambda: len(receiver.said("first")) == 3)
    assert receiver.said("first") == ["sent", "delivered", "read"]
    assert receiver.unsigned == 0
    (message,) = eventually(lambda: [m for m in sandbox.messages()["messages"] if m["reported"]])
    assert message["wamid"] == answer.json()["messages"][0]["id"]
    assert (message["phone_number_id"], message["to"], message["text"]) == ("1055", "60123456789", "Hello")


def test_all_requests_are_listed_in_order_and_counted(sandbox):
    for callback_data, text in (("a", "one"), ("b", "two"), ("a", "three")):
        sandbox.send(callback_data, text)
    sandbox.send("c", "four", token="expired")
    sandbox.send("c", "x" * 5000)
    listed = sandbox.messages()
    assert [(m["text"], m["answer"]) for m in listed["messages"]] == [
        ("one", "200"), ("two", "200"), ("three", "200"), ("", "190"), ("", "100"),
    ]  # fmt: skip
    assert (listed["count"], listed["receipts"]) == (5, {"a": 2, "b": 1})


def test_the_list_can_be_filtered(sandbox):
    sandbox.send("a", "red apple", number="1")
    sandbox.send("b", "green apple", to="+15550109999")
    sandbox.send("c", "pear", token="expired")
    first = sandbox.messages(limit=1)
    assert (first["count"], len(first["messages"])) == (3, 1)

    def found(**asked):
        return [m["text"] for m in sandbox.messages(**asked)["messages"]]

    assert found(text="apple") == ["red apple", "green apple"]
    assert found(phone_number_id="1") == ["red apple"]
    assert found(to="15550109999") == ["green apple"]
    assert found(biz_opaque_callback_data="a") == ["red apple"]
    assert found(accepted="false") == [""]
    assert found(accepted="true", after=first["messages"][0]["seq"]) == ["green apple"]


def test_a_rule_makes_requests_fail_with_its_error(sandbox):
    sandbox.behave(error_code=131000, times=1, match="odd")
    assert sandbox.send("a", "even").status_code == 200
    refused = sandbox.send("b", "odd")
    assert (refused.status_code, refused.json()["error"]["code"]) == (500, 131000)
    assert sandbox.send("b", "odd").status_code == 200
    assert sandbox.messages()["receipts"] == {"a": 1, "b": 1}


def test_a_message_whose_answer_is_cut_is_accepted_and_reported(sandbox, receiver):
    sandbox.behave(cut="after_accept", times=1)
    with pytest.raises(requests.ConnectionError):
        sandbox.send("cut after")
    assert sandbox.messages()["receipts"] == {"cut after": 1}
    assert eventually(lambda: len(receiver.said("cut after")) == 3)


def test_a_message_whose_request_is_cut_is_not_accepted(sandbox):
    sandbox.behave(cut="before_accept", times=1)
    with pytest.raises(requests.ConnectionError):
        sandbox.send("cut before")
    assert sandbox.messages()["receipts"] == {}
    assert [m["answer"] for m in sandbox.messages()["messages"]] == ["cut"]


def test_a_message_with_a_delayed_answer_is_accepted_at_once(sandbox):
    sandbox.behave(delay_ms=1000)
    answers = []
    slow = threading.Thread(target=lambda: answers.append(sandbox.send("slow")))
    slow.start()
    eventually(lambda: sandbox.messages()["receipts"] == {"slow": 1})
    assert answers == []
    slow.join()
    assert answers[0].status_code == 200


def test_webhooks_are_retried_until_they_are_accepted(sandbox, receiver):
    receiver.refusals = 2
    sandbox.send("stubborn")
    eventually(lambda: len(receiver.said("stubborn")) == 3)
    eventually(lambda: requests.get(f"{sandbox.url}/health", timeout=HANG_SECONDS).json()["webhooks_waiting"] == 0)


def test_statuses_can_be_failed_repeated_and_shuffled(sandbox, receiver):
    sandbox.behave(match="failing", statuses=["sent", "failed"], failed_code=131049, webhook_delay_ms=1)
    sandbox.behave(match="again", duplicate_webhooks=1, shuffle_webhooks=True, webhook_delay_ms=1)
    sandbox.behave(match="silent", statuses=[])
    for text in ("silent", "failing", "again"):
        sandbox.send(text, text)
    eventually(lambda: len(receiver.said("again")) == 6)
    assert sorted(receiver.said("again")) == ["delivered"] * 2 + ["read"] * 2 + ["sent"] * 2
    assert receiver.said("failing") == ["sent", "failed"]
    assert receiver.said("silent") == []


def test_rules_are_listed_and_deleted(sandbox):
    sandbox.behave(match="x", error_code=2)
    url = f"{sandbox.url}/_sandbox/behaviour"
    assert requests.get(url, timeout=HANG_SECONDS).json() == {"behaviours": [{"match": "x", "error_code": 2}]}
    assert requests.delete(url, timeout=HANG_SECONDS).json() == {"behaviours": []}
    assert requests.post(url, json={"speed": 1}, timeout=HANG_SECONDS).status_code == 400


def test_unknown_paths_are_answered_in_the_apis_form(sandbox):
    for path in ("/", "/v26.0/1055/pictures", "/1055/messages", "/graph/1055/messages"):
        answer = requests.post(f"{sandbox.url}{path}", timeout=HANG_SECONDS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, 2500), path
    assert requests.get(f"{sandbox.url}/v26.0/1055/messages", timeout=HANG_SECONDS).json()["error"]["code"] == 100


def test_the_page_shows_the_chats_and_no_message_can_write_html_into_it(sandbox):
    sandbox.send("a", "<script>alert(1)</script>")
    page = requests.get(f"{sandbox.url}/_sandbox/", timeout=HANG_SECONDS)
    assert "+60123456789" in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script>" not in page.text


def test_accepted_messages_survive_a_kill_and_are_reported_afterwards(tmp_path):
    receiver_port = free_port()
    sandbox = Sandbox(tmp_path, free_port(), receiver_port)  # there is no meta process; the legacy one starts later
    try:
        for n in range(20):
            sandbox.send(f"m{n}")
        sandbox.end(signal.SIGKILL)
        receiver = Receiver(receiver_port)
        sandbox.start()
        assert sandbox.messages()["receipts"] == {f"m{n}": 1 for n in range(20)}
        # As at Meta, a report may come twice: the worker that was killed may have sent one that it did not mark.
        eventually(lambda: all(set(receiver.said(f"m{n}")) == {"sent", "delivered", "read"} for n in range(20)))
        receiver.close()
    finally:
        sandbox.end()


def test_a_stopping_simulator_finishes_running_requests(tmp_path):
    sandbox = Sandbox(tmp_path, free_port(), free_port())
    sandbox.behave(delay_ms=700)
    answers = []
    slow = threading.Thread(target=lambda: answers.append(sandbox.send("slow").status_code))
    slow.start()
    eventually(lambda: sandbox.messages()["count"] == 1)
    assert sandbox.end() == 0
    slow.join()
    assert answers == [200]
