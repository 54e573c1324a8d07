"""The send window against a server that behaves badly."""

import socket
import struct
import threading
import time
from ipaddress import ip_network

import pytest

from services.http_client import REFUSED_ADDRESS, RequestsInFlight
from services.http_exchange import Answered, Broken, HttpRequest
from tests.support.waiting import HANG_SECONDS, wait_until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers the first `answers` requests of each connection, then reads one more and cuts the connection."""

    def __init__(self, answers: int) -> None:
        self.answers, self.bodies, self.connections = answers, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            for _ in range(self.answers):
                if not self._read(connection):
                    return
                connection.sendall(ANSWER)
            self._read(connection)

    def _read(self, connection: socket.socket) -> bool:
        received = b""
        while b"\r\n\r\n" not in received or not received.endswith(b"!"):
            chunk = connection.recv(65536)
            if not chunk:
                return False
            received += chunk
        self.bodies.append(received.partition(b"\r\n\r\n")[2])
        return True

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def serve():
    servers = []

    def start(answers):
        servers.append(Server(answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def send(window, url, body, marks):
    window.submit(body, HttpRequest(url, ("Content-Type: text/plain",), body), lambda: marks.append(body))
    return wait_until(lambda: window.poll(0.1), what=lambda: "no answer", pause=0)[0]


def test_answers_come_with_their_tickets_and_each_body_is_marked_once_before_it_leaves(serve):
    server, window, marks = serve(10), RequestsInFlight(4, 5000), []
    for body in (b"one!", b"two!"):
        assert send(window, server.url, body, marks) == (body, Answered(200, b"ok"))
    assert marks == server.bodies == [b"one!", b"two!"]


def test_a_post_whose_reused_connection_breaks_is_not_repeated(serve):
    server, window, marks = serve(1), RequestsInFlight(1, 5000), []
    send(window, server.url, b"one!", marks)
    ticket, broken = send(window, server.url, b"two!", marks)
    assert ticket == b"two!"
    assert isinstance(broken, Broken)
    assert broken.handed
    assert server.bodies == [b"one!", b"two!"]


@pytest.mark.parametrize("size", [4, 500_000])
def test_a_request_whose_connection_breaks_before_the_first_byte_did_not_leave(serve, size):
    server, window, marks = serve(10), RequestsInFlight(1, 5000), []
    send(window, server.url, b"one!", marks)

    def reset():  # between the mark and the first byte
        (connection,) = server.connections
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
        wait_until(lambda: connection.fileno() == -1)

    window.submit("two", HttpRequest(server.url, (), b"x" * size + b"!"), reset)
    ((_, broken),) = wait_until(lambda: window.poll(0.1), what=lambda: "no answer", pause=0)
    assert isinstance(broken, Broken)
    assert not broken.handed
    assert broken.reason == "the connection was closed before anything was sent"
    assert server.bodies == [b"one!"]
    assert send(window, server.url, b"three!", marks) == (b"three!", Answered(200, b"ok"))


def test_a_request_that_never_left_is_distinguished_from_one_that_may_have(serve):
    server, marks = serve(0), []
    unused = socket.create_server(("127.0.0.1", 0))
    port = unused.getsockname()[1]
    unused.close()
    _, refused = send(RequestsInFlight(1, 5000), f"http://127.0.0.1:{port}/", b"never!", marks)
    assert isinstance(refused, Broken)
    assert not refused.handed
    assert marks == []
    _, cut = send(RequestsInFlight(1, 5000), server.url, b"perhaps!", marks)
    assert isinstance(cut, Broken)
    assert cut.handed
    assert cut.reason == "the connection was cut after the request had left, before the answer came"


def test_with_open_networks_a_request_reaches_the_public_internet_and_these_alone(serve):
    server, marks = serve(10), []
    _, refused = send(RequestsInFlight(1, 5000, ()), server.url, b"inside!", marks)
    assert isinstance(refused, Broken)
    assert (refused.handed, refused.reason, marks) == (False, REFUSED_ADDRESS, [])
    window = RequestsInFlight(1, 5000, (ip_network("127.0.0.0/8"),))
    assert send(window, server.url, b"opened!", marks) == (b"opened!", Answered(200, b"ok"))


def test_a_server_that_hangs_ends_in_a_time_out(serve):
    server, marks = serve(0), []
    server._read = lambda connection: time.sleep(HANG_SECONDS)
    _, late = send(RequestsInFlight(1, 2000), server.url, b"slow!", marks)
    assert isinstance(late, Broken)
    assert late.handed


def test_interrupt_ends_a_wait(serve):
    server, window = serve(0), RequestsInFlight(1, 60_000)
    server._read = lambda connection: time.sleep(HANG_SECONDS)
    window.submit("slow", HttpRequest(server.url, (), b"slow!"), lambda: None)
    waited = threading.Thread(target=lambda: [window.poll(0), window.poll(HANG_SECONDS), window.poll(HANG_SECONDS)])
    waited.start()
    while waited.is_alive():  # each poll ends by an interruption, none by its time
        window.interrupt()
        waited.join(0.1)
    assert window.in_flight == 1
