"""Clients that take what others need: nobody else notices meanwhile, and everything is as before once they are gone."""

import base64
import contextlib
import functools
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import psycopg2
import pytest
import requests

from services.connectors.meta.receiver import PATH, SIGNATURE_HEADER, sign
from tests.support.api import CHAT, COMPANY, KEY, OTHER, OTHER_KEY, add_company, settings_for
from tests.support.file_beginnings import JPEG
from tests.support.meta_payloads import message, value, webhook
from tests.support.outbox import execute
from tests.support.processes.http_process import closed_by_server, everything, held, http_server, problem
from tests.support.processes.tight_limits import MAX_CONNECTIONS
from tests.support.sandbox import eventually
from tests.support.waiting import HANG_SECONDS

SECRET = "app-secret"
BUNDLE = b"GET /openapi/swagger/js/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
ATTACKER = f"X-Api-Key: {OTHER_KEY}\r\n".encode()
CHUNKED = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + ATTACKER + b"\r\n"
#: Seconds for which a client waits for an outcome: longer than a busy machine takes to begin all of them.
OPEN_SECONDS = 15
IMAGE = {"imageUrl": f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"}


#: The processes: the application, its name, and a path that it answers as soon as it serves.
PROCESSES = {
    "server": ("services.api.asgi:app", "api", "/health"),
    "receiver": ("services.connectors.meta.receiver:create_service()", "meta", "/health/live"),
    "manager": ("services.wwebjs_manager:create_service()", "wwebjs", "/health"),
    "legacy": ("services.legacy:app", "legacy", "/health"),
}


@contextlib.contextmanager
def serving(kind, dsn, folder):
    """A process of this kind."""
    more = {"ENABLE_WWEBJS": "false"} if kind == "legacy" else {}
    with http_server(settings_for(dsn, folder, META_APP_SECRET=SECRET, **more), *PROCESSES[kind]) as server:
        yield server


@pytest.fixture
def start(database, tmp_path):
    """Starts a process of a kind for one test."""
    add_company(database)
    with contextlib.ExitStack() as stack:
        yield lambda kind: stack.enter_context(serving(kind, database, tmp_path))


@pytest.fixture
def server(start):
    return start("server")


@pytest.fixture(scope="module")
def shared(shared_database, tmp_path_factory):
    """Starts a process of each kind once, for all tests that one request each meets."""
    add_company(shared_database)
    folder = tmp_path_factory.mktemp("shared")
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda kind: stack.enter_context(serving(kind, shared_database, folder)))


def served(server):
    """A company that does no harm has its text and its image accepted, and reads."""
    headers, base = {"X-Api-Key": KEY}, f"{server.url}/api/v2/messages"
    for kind, body in (("text", {"message": "Hello"}), ("image", IMAGE)):
        answer = requests.post(f"{base}/{kind}/{COMPANY}/{CHAT}", json=body, headers=headers, timeout=HANG_SECONDS)
        assert answer.status_code == 202, answer.text
    for path in (f"/api/v2/messages/{COMPANY}/{CHAT}", "/api/webhooks", "/health"):
        assert requests.get(server.url + path, headers=headers, timeout=HANG_SECONDS).status_code == 200


def webhook_stored(receiver):
    """A webhook of Meta's is stored."""
    body = orjson.dumps(webhook(value(message("text", {"body": "Hello"}, id=f"wamid.{time.monotonic()}"))))
    answer = requests.post(
        receiver.url + PATH, body, headers={SIGNATURE_HEADER: sign(SECRET, body)}, timeout=HANG_SECONDS
    )
    assert answer.status_code == 200
    assert requests.get(f"{receiver.url}/health/ready", timeout=HANG_SECONDS).ok


def recovers(server, before=1):
    """The attacker's connections are gone from the server."""
    eventually(lambda: server.connections() <= before)


def test_pipelined_requests_of_clients_that_leave(server):
    for copies in (2, 2, 40):
        clients = [server.connect(BUNDLE * copies, receive_buffer=4096) for _ in range(60)]
        time.sleep(0.5)  # the answers have begun
        for client in clients:
            client.close()
        served(server)
    recovers(server)


def test_a_pipelining_client_is_answered_once_in_full(shared):
    server = shared("server")
    get = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    head, _, body = server.ask(get * 500).partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b"connection: close" in head
    assert json.loads(body)["success"] is True  # one answer, and nothing after it


def test_heads_that_never_end_delay_nobody(server):
    clients = [server.connect(b"GET /health HTTP/1.1\r\nHost: x\r\nX-") for _ in range(120)]
    with held(clients):
        served(server)
        assert problem(everything(clients[0])) == (408, "request_timeout")
        closed_by_server(clients)
        recovers(server)  # although the clients stay


def test_too_many_connections_delay_nobody(server):
    clients = [server.connect() for _ in range(400)]
    with held(clients):
        served(server)
        assert server.connections() < 200
    served(server)
    recovers(server)


@pytest.mark.parametrize("key", [b"", ATTACKER])
def test_bodies_that_never_arrive_delay_nobody(server, key):
    post = b"POST /api/webhooks HTTP/1.1\r\nHost: x\r\n" + key + b"Content-Length: 100\r\n\r\n{"
    clients = [server.connect(post) for _ in range(110)]
    with held(clients):
        served(server)
        assert problem(everything(clients[0])) == (408, "request_timeout")
        closed_by_server(clients)
        recovers(server)  # although the clients stay
    served(server)


def test_incomplete_uploads_delay_nobody(server):
    head = f"POST /api/v2/messages/document/{OTHER}/{CHAT} HTTP/1.1\r\nHost: x\r\n".encode() + ATTACKER
    form = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 90000000\r\n\r\n--b\r\n"
    clients = [server.connect(head + form + bytes(200_000)) for _ in range(110)]
    with held(clients):
        served(server)
        closed_by_server(clients)
        recovers(server)
    served(server)


def test_a_slow_upload_that_goes_on_is_accepted(server):
    content = JPEG + bytes(100_000)
    parts = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = parts + content + b"\r\n--b--\r\n"
    head = f"POST /api/v2/messages/image/{OTHER}/{CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    form = f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with server.connect(head + ATTACKER + form) as client:
        step = len(body) // 12 + 1
        for begin in range(0, len(body), step):  # for longer than a window, and than the time for a head
            client.sendall(body[begin : begin + step])
            time.sleep(0.5)
        assert everything(client).startswith(b"HTTP/1.1 202 ")


@pytest.fixture
def large_file(server):
    """The path of a file of 20 MB of the attacker's."""
    url = f"{server.url}/api/v2/messages/document/{OTHER}/{CHAT}"
    answer = requests.post(
        url,
        files={"file": ("a.pdf", b"%PDF-1.7\n" + bytes(20 << 20))},
        headers={"X-Api-Key": OTHER_KEY},
        timeout=HANG_SECONDS,
    )
    assert answer.status_code == 202, answer.text
    return f"/api/v2/media/{OTHER}/{answer.json()['messageId']}"


def test_readers_of_a_large_file_that_do_not_read(server, large_file):
    get = f"GET {large_file} HTTP/1.1\r\nHost: x\r\n".encode() + ATTACKER + b"\r\n"
    clients = [server.connect(get, receive_buffer=4096) for _ in range(110)]
    with held(clients):
        served(server)
        recovers(server, 1)  # those that take nothing are cut off while they are still there
        served(server)
    recovers(server)


def test_readers_on_more_connections_than_the_process_takes(server, large_file):
    get = f"GET {large_file} HTTP/1.1\r\nHost: x\r\n".encode() + ATTACKER + b"\r\n"
    clients = []
    with held(clients):
        for _ in range(MAX_CONNECTIONS + 50):
            clients.append(server.connect(get, receive_buffer=4096))
            assert clients[-1].recv(12) == b"HTTP/1.1 200"  # there was room for it, and its answer has begun
        served(server)
    recovers(server)


def test_a_slow_reader_that_goes_on_has_all_of_it(server, large_file):
    get = f"GET {large_file} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode() + ATTACKER + b"\r\n"
    with server.connect(get) as client:
        received = 0
        while part := client.recv(1 << 20):
            received += len(part)
            time.sleep(0.05)
    assert received > 20 << 20


@pytest.mark.parametrize(
    ("request_bytes", "refused"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 400_000 + b"\r\n", (431, "headers_too_large")),
        (b"GET /health HTTP/1.1\r\nHost: x\r\na: " + b"b" * (20 << 20) + b"\r\n\r\n", (431, "headers_too_large")),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"a" * (1 << 20), (431, "headers_too_large")),
        (b"GET /health?" + b"a" * (20 << 20) + b" HTTP/1.1\r\n\r\n", (414, "url_too_long")),
        (
            b"GET /health HTTP/1.1\r\nHost: x\r\nb@d header\r\n\r\n",
            (400, "invalid_request"),
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400, "invalid_request")),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", (400, "invalid_request")),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", (501, "not_implemented")),
        (
            CHUNKED + b"1;" + b"e" * (1 << 20),
            (400, "invalid_request"),
        ),
        (
            CHUNKED + b"0\r\n" + b"t: u\r\n" * 50_000,
            (431, "headers_too_large"),
        ),
    ],
    ids=["lines", "value", "name", "url", "name-sign", "tls", "host", "coding", "extension", "trailers"],
)
@pytest.mark.parametrize("kind", ["server", "receiver", "manager"])
def test_floods_and_nonsense_are_refused_in_our_form(shared, kind, request_bytes, refused):
    server = shared(kind)
    memory = server.worker.memory_info().rss
    assert problem(server.ask(request_bytes)) == refused
    assert server.worker.memory_info().rss - memory < 32 << 20
    assert requests.get(f"{server.url}/health/ready", timeout=HANG_SECONDS).ok


def test_header_floods_delay_nobody(server):
    flood = b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 400_000
    stopped = threading.Event()

    def attack():
        while not stopped.is_set():
            server.ask(flood)

    with ThreadPoolExecutor(4) as attackers:
        try:
            for _ in range(4):
                attackers.submit(attack)
            served(server)
        finally:
            stopped.set()
    recovers(server)


def test_waits_for_outcomes_delay_nobody(server):
    """Nobody sends the messages, as with a number whose rate is low."""
    url = f"{server.url}/api/v2/messages/image/{OTHER}"

    def wait(number):
        return requests.post(
            f"{url}/60111{number:06}?wait={OPEN_SECONDS}", json=IMAGE, headers={"X-Api-Key": OTHER_KEY}, timeout=90
        )

    with ThreadPoolExecutor(90) as threads:
        waiting = [threads.submit(wait, number) for number in range(90)]
        eventually(lambda: server.connections() >= len(waiting))
        served(server)
        refused = requests.post(
            f"{server.url}/api/v2/messages/text/{COMPANY}/{CHAT}?wait=0.5",
            json={"message": "x"}, headers={"X-Api-Key": KEY}, timeout=HANG_SECONDS,
        )  # fmt: skip
        assert refused.status_code == 202  # nor is somebody else's wait refused
        assert sum(not each.done() for each in waiting) > 50  # they were still open
        assert {each.result().status_code for each in waiting} == {202}
    served(server)


def test_more_open_waits_than_a_company_may_have_are_refused(server):
    head = f"POST /api/v2/messages/text/{OTHER}/{CHAT}?wait={OPEN_SECONDS} HTTP/1.1\r\nHost: x\r\n".encode()
    post = head + b"Content-Length: 15\r\n" + ATTACKER + b'\r\n{"message":"x"}'
    served(server)
    requests.get(
        f"{server.url}/api/webhooks", headers={"X-Api-Key": OTHER_KEY}, timeout=HANG_SECONDS
    )  # its key is known
    clients = [server.connect(post) for _ in range(130)]
    with held(clients):
        refused = 0
        for client in clients:
            refused += client.recv(12) == b"HTTP/1.1 429"
            if refused == 30:
                break
        assert refused == 30
        served(server)
    recovers(server)


def test_large_bodies_without_a_key_are_not_read(shared):
    server = shared("server")
    head = f"POST /api/v2/messages/document/{OTHER}/{CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n".encode()
    for key in (b"", b"X-Api-Key: bk_nobody\r\n"):
        with server.connect(head + key + b"\r\n") as client:
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 401 ")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(shared):
    server = shared("server")
    head = f"POST /api/v2/messages/image/{OTHER}/{CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n".encode()
    with server.connect(head + ATTACKER + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n") as client:
        answer = b""
        while b"}" not in answer and (part := client.recv(1 << 16)):
            answer += part
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"media_too_large" in answer
        closed_by_server([client])


@pytest.mark.parametrize("kind", ["receiver", "manager", "legacy"])
@pytest.mark.parametrize(
    "begin", [b"GET /health HTTP/1.1\r\nHost: x\r\nX-", b"POST /x HTTP/1.1\r\nContent-Length: 99\r\n\r\n"]
)
def test_incomplete_requests_delay_no_other_port(start, kind, begin):
    server = start(kind)
    clients = [server.connect(begin) for _ in range(120)]
    with held(clients):
        assert requests.get(f"{server.url}/health/ready", timeout=HANG_SECONDS).ok
        if kind != "manager":
            webhook_stored(server)
        if kind == "legacy":
            served(server)
        assert problem(everything(clients[0])) == (408, "request_timeout")
        closed_by_server(clients)
        recovers(server)  # although the clients stay


@pytest.mark.parametrize("kind", ["receiver", "legacy"])
def test_webhooks_without_their_bodies(start, kind):
    receiver = start(kind)
    post = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n".encode() + bytes(100_000)
    clients = [receiver.connect(post) for _ in range(60)]
    with held(clients):
        webhook_stored(receiver)
        closed_by_server(clients)
    webhook_stored(receiver)
    recovers(receiver)


@pytest.mark.parametrize("kind", ["receiver", "manager", "server"])
@pytest.mark.parametrize("name", ["SCRIPT_NAME", "PATH_INFO", "Script-Name"])
def test_no_header_moves_the_application(shared, kind, name):
    server = shared(kind)
    answer = requests.get(f"{server.url}/nothing", headers={name: "/health"}, timeout=HANG_SECONDS)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_an_open_answer_is_finished_when_the_process_is_to_end(server, large_file):
    get = f"GET {large_file} HTTP/1.1\r\nHost: x\r\n".encode() + ATTACKER + b"\r\n"
    with server.connect(get, receive_buffer=65536) as client:
        assert client.recv(16).startswith(b"HTTP/1.1 200")
        server.process.terminate()
        received = len(everything(client))
    assert received > 20 << 20
    assert server.process.wait(HANG_SECONDS) == 0


def accepted(database):
    """The number of messages in the outbox."""
    with contextlib.closing(psycopg2.connect(database)) as connection:
        ((count,),) = execute(connection, "SELECT count(*) FROM outbox")
    return count


def test_callers_that_wait_for_an_outcome_are_answered_when_the_process_ends(server, database):
    def wait(kind, body):
        url = f"{server.url}/api/v2/messages/{kind}/{OTHER}/{CHAT}?wait=30"
        return requests.post(url, json=body, headers={"X-Api-Key": OTHER_KEY}, timeout=90)

    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(wait, *each) for each in (("text", {"message": "Hello"}), ("image", IMAGE))]
        eventually(lambda: accepted(database) == len(waiting))
        server.process.terminate()
        answers = [each.result() for each in waiting]
    assert [answer.status_code for answer in answers] == [202, 202]  # not a 500, after which it would be sent again
    assert all(answer.json()["messageId"] for answer in answers)
    assert server.process.wait(HANG_SECONDS) == 0


def test_a_client_that_reads_nothing_does_not_delay_the_end_of_the_process(server, large_file):
    get = f"GET {large_file} HTTP/1.1\r\nHost: x\r\n".encode() + ATTACKER + b"\r\n"
    with held([server.connect(get, receive_buffer=4096) for _ in range(20)]):
        server.process.terminate()
        server.process.wait(HANG_SECONDS)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port), 5):
        pass
