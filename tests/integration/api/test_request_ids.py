"""Every answer has its request's id, which is stored with the message and shown with it."""

import socket
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.api import CHAT, COMPANY, KEY, add_company, serving, settings_for
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def server(database, tmp_path):
    add_company(database)
    with serving(settings_for(database, tmp_path)) as url:
        yield url


def call(url, method="GET", request_id="mine-1", key=KEY, **more):
    headers = {"X-Api-Key": key, **({"X-Request-Id": request_id} if request_id else {}), **more.pop("headers", {})}
    return requests.request(method, url, headers=headers, timeout=HANG_SECONDS, **more)


def test_every_answer_has_the_id_of_its_request(server):
    text = f"{server}/api/v2/messages/text/{COMPANY}/{CHAT}"
    answers = [
        call(text, "POST", json={"message": "hot"}),
        call(text, "POST", json={"message": 7}),
        call(text, "POST", key="bk_nobody", json={"message": "x"}),
        call(f"{server}/api/v2/messages/reaction/{COMPANY}/{CHAT}", "POST", json={}),
        call(f"{server}/api/v2/nothing"),
        call(f"{server}/health/live", key=""),
        call(f"{server}//double"),
        call(f"{server}/{'x' * 70_000}"),
    ]
    assert [answer.headers.get("X-Request-Id") for answer in answers] == ["mine-1"] * 7 + [
        answers[-1].headers["X-Request-Id"]  # refused before its headers were read
    ]
    assert [answer.status_code for answer in answers] == [202, 400, 401, 405, 404, 200, 404, 414]
    assert answers[-1].headers["X-Request-Id"] != "mine-1"


def test_a_request_that_is_not_http_has_an_id_too(server):
    address = urlsplit(server)
    with socket.create_connection((address.hostname, address.port), HANG_SECONDS) as connection:
        connection.sendall(b"GET / nonsense\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b"\r\nx-request-id: " in answer


@pytest.mark.parametrize("request_id", [None, "two words", "x" * 200, '"quoted"'])
def test_an_id_that_is_missing_or_unsound_is_replaced(server, request_id):
    url = f"{server}/api/v2/messages/text/{COMPANY}/{CHAT}"
    made = {call(url, "POST", request_id, json={"message": "x"}).headers["X-Request-Id"] for _ in range(3)}
    assert len(made) == 3
    assert request_id not in made


def test_the_id_is_stored_with_the_message_and_shown(server):
    url = f"{server}/api/v2/messages"
    hot = call(f"{url}/text/{COMPANY}/{CHAT}", "POST", "hot-1", json={"message": "x"}).json()["messageId"]
    link = {"imageUrl": "https://files.example.com/x.png"}
    slow = call(f"{url}/image/{COMPANY}/{CHAT}", "POST", "slow-1", json=link)
    assert slow.status_code == 202, slow.text
    shown = [call(f"{url}/{COMPANY}/{CHAT}/{each}").json()["requestId"] for each in (hot, slow.json()["messageId"])]
    assert shown == ["hot-1", "slow-1"]
    page = call(f"{url}/{COMPANY}/{CHAT}").json()
    assert [each["requestId"] for each in page["messages"]] == ["slow-1", "hot-1"]
