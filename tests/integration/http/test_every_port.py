"""Every port under the same attacks: odd requests meet no fault of ours, and clients that take much delay nobody."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from services.http_server.error_codes import ErrorCode
from tests.support.api import CHAT, COMPANY, KEY, OTHER_KEY, add_company, settings_for
from tests.support.odd_requests import odd_requests
from tests.support.processes.http_process import Port, closed_by_server, held, http_server, problem
from tests.support.sandbox import Sandbox, eventually, free_port
from tests.support.waiting import HANG_SECONDS

#: The processes with a port: the application, its name, and an address that needs a thread.
PROCESSES = {
    "api": ("services.api.asgi:app", "/health"),
    "receiver": ("services.connectors.meta.receiver:create_service()", "/health/live"),
    "manager": ("services.wwebjs_manager:create_service()", "/health"),
    "legacy": ("services.legacy:app", "/health"),
}
NAMES = {"receiver": "meta", "manager": "wwebjs"}
CODES = {code.value for code in ErrorCode}
#: Odd requests to each port, and their seed.
ODD_REQUESTS = int(os.environ.get("TEST_ODD_REQUESTS", "400"))
SEED = int(os.environ.get("TEST_SEED", "1"))


@pytest.fixture(scope="module")
def settings(shared_database, tmp_path_factory):
    add_company(shared_database)
    more = {
        "META_APP_SECRET": "app-secret",
        "META_VERIFY_TOKEN": "verify",
        "ENABLE_WWEBJS": "false",
        "WRONG_KEYS_PER_MINUTE": 10**6,
    }
    return settings_for(shared_database, tmp_path_factory.mktemp("settings"), **more)


@pytest.fixture(scope="module", params=[*PROCESSES, "sandbox"])
def port(request, settings, tmp_path_factory):
    """Each port, with an address of it that answers 200."""
    if request.param == "sandbox":
        sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), free_port(), free_port())
        yield request.param, Port(sandbox.port), "/health"
        sandbox.end()
        return
    app, health = PROCESSES[request.param]
    with http_server(settings, app, NAMES.get(request.param, request.param), health) as server:
        yield request.param, server, health


def answers(port, path):
    assert requests.get(port.url + path, timeout=HANG_SECONDS).status_code == 200


def found_fault(name, method, answer):
    """The reason why an answer to an odd request is wrong, if it is."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head:
        return None  # the connection was closed: that is an answer, too
    status = int(head.split(b" ", 2)[1])
    if status < 400:
        return None
    if status >= 500 and status != ErrorCode.NOT_IMPLEMENTED.status:
        return f"status {status}"
    if method == b"HEAD" or name == "sandbox":  # the simulators have the forms of the providers
        return None
    try:
        found = json.loads(body)
        is_ours = found["code"] in CODES and found["success"] is False and found["error"]
        return None if is_ours else "not our form"
    except (ValueError, KeyError, TypeError) as error:
        return f"not our form: {error}"


def test_no_odd_request_meets_a_fault(port):
    name, server, health = port

    def ask(request):
        method, content = request
        return found_fault(name, method, server.ask(content)), content[:300]

    with ThreadPoolExecutor(16) as threads:
        faults = [each for each in threads.map(ask, odd_requests(SEED, ODD_REQUESTS)) if each[0]]
    assert faults == []
    answers(server, health)


def test_clients_that_send_slowly_or_flood_delay_nobody(port):
    _, server, health = port
    stopped = threading.Event()
    flood = b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 100_000
    pipeline = f"GET {health} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 50

    def attack():
        while not stopped.is_set():
            server.ask(flood)
            for client in [server.connect(pipeline, receive_buffer=4096) for _ in range(10)]:
                client.close()

    slow = [server.connect(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-") for _ in range(60)]
    slow += [server.connect(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\n{") for _ in range(60)]
    with held(slow), ThreadPoolExecutor(2) as attackers:
        try:
            for _ in range(2):
                attackers.submit(attack)
            for _ in range(5):
                answers(server, health)
        finally:
            stopped.set()
        closed_by_server(slow)  # although they stay
    answers(server, health)
    assert problem(server.ask(flood)) == (431, "headers_too_large")


@pytest.fixture
def api_server(settings):
    with http_server(settings, PROCESSES["api"][0], "api", "/health") as server:
        yield server


def test_streams_that_are_not_read_delay_nobody(api_server):
    head = "GET /api/events HTTP/1.1\r\nHost: x\r\nX-Api-Key: {}\r\n\r\n"
    heads = [head.format(key).encode() for key in (OTHER_KEY, "bk_x")]
    clients = [api_server.connect(each, receive_buffer=4096) for each in heads for _ in range(40)]
    with held(clients):
        with requests.get(
            f"{api_server.url}/api/events", headers={"X-Api-Key": KEY}, stream=True, timeout=HANG_SECONDS
        ) as mine:
            assert mine.status_code == 200
            assert next(mine.iter_content(None))
        answer = requests.post(
            f"{api_server.url}/api/v2/messages/text/{COMPANY}/{CHAT}",
            json={"message": "Hello"}, headers={"X-Api-Key": KEY}, timeout=HANG_SECONDS,
        )  # fmt: skip
        assert answer.status_code == 202
        answers(api_server, "/health/ready")
    eventually(lambda: api_server.connections() <= 1)


def test_the_state_of_the_processes_is_shown_under_names_of_the_server_alone(port):
    name, server, health = port
    if name == "sandbox":
        evil = requests.get(server.url + health, headers={"Host": "evil.example"}, timeout=HANG_SECONDS)
        assert evil.status_code == 403
        return
    for path in ("/health/all", f"/metrics/{NAMES.get(name, name)}"):
        evil = requests.get(server.url + path, headers={"Host": "evil.example"}, timeout=HANG_SECONDS)
        assert (evil.status_code, evil.json()["code"]) == (403, "unknown_host")
        mine = requests.get(server.url + path, headers={"Host": "localhost"}, timeout=HANG_SECONDS)
        assert mine.status_code in (200, 404)  # no process has a heartbeat yet
    evil = requests.get(server.url + health, headers={"Host": "evil.example"}, timeout=HANG_SECONDS)
    assert evil.status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_the_simulators_refuse_pages_of_other_sites_on_every_route(tmp_path, origin):
    sandbox = Sandbox(tmp_path, free_port(), free_port())
    try:
        for method, path in (
            ("POST", "/v26.0/100000000000001/subscribed_apps?access_token=x"), ("GET", "/v26.0/1?access_token=x"),
            ("POST", "/360dialog/messages"), ("GET", "/_sandbox/messages"), ("GET", "/_wa/"), ("GET", "/health"),
        ):  # fmt: skip
            for headers in ({"Origin": origin}, {"Host": "evil.example"}):
                answer = requests.request(method, sandbox.url + path, headers=headers, timeout=HANG_SECONDS)
                assert answer.status_code == 403, path
    finally:
        sandbox.end()
