"""An HTTP/1.1 server that answers with the length and the SHA-256 of a body. Query parameters make it misbehave."""

import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


def digest(body: bytes) -> dict[str, object]:
    """The server's answer to a body."""
    return {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


class _Handler(BaseHTTPRequestHandler):
    server: "EchoServer"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        how = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if "early" in how:  # answers before it has read the body, and closes
            self._early(int(how["early"]))
            return
        body = self._read(float(how.get("pause", 0)))
        self.server.bodies.append(digest(body))
        if "cut" in how or "head" in how:
            self.close_connection = True
            if "head" in how:  # the head of an answer, whose body never comes
                self._begin(int(how["head"]), 10)
            return
        answer = b"x" * int(how["answer"]) if "answer" in how else json.dumps(digest(body)).encode()
        with contextlib.suppress(OSError):  # a client that has read enough closes
            if "chunked" in how:
                self._chunked(int(how.get("status", 200)), answer)
            else:
                self._begin(int(how.get("status", 200)), len(answer))
                self.wfile.write(answer)

    def _begin(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def do_GET(self) -> None:
        content = self.server.files[urlsplit(self.path).path]
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    def _read(self, pause: float) -> bytes:
        left, pieces = int(self.headers["Content-Length"]), []
        while left:
            piece = self.rfile.read(min(left, 50_000))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
            time.sleep(pause)
        return b"".join(pieces)

    def _early(self, status: int) -> None:
        self.wfile.write(f"HTTP/1.1 {status} Early\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno".encode())
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(60)
            while self.connection.recv(65536):  # closing with unread bytes would reset the connection
                pass
        self.close_connection = True

    def _chunked(self, status: int, answer: bytes) -> None:
        self.send_response(status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for begin in range(0, len(answer), 30_000):
            piece = answer[begin : begin + 30_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


class EchoServer(ThreadingHTTPServer):
    """Listens on a free port of the loopback until the context ends."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, object]] = []
        self.files: dict[str, bytes] = {}
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def echo_server() -> Iterator[EchoServer]:
    """A server that runs within the context."""
    server = EchoServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
