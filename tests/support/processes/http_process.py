"""An HTTP process as supervisord runs it, and clients that do not behave."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import requests

from tests.support.sandbox import eventually, free_port

#: Limits that a test reaches; the environment names others, such as those of a release that has none.
CONFIG = os.environ.get("TEST_GUNICORN_CONFIG", "python:tests.support.processes.tight_limits")
ROOT = Path(__file__).parents[3]


class HttpServer:
    """One process under gunicorn."""

    def __init__(self, settings, app, process, health):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = ("-c", CONFIG, "--no-control-socket", "-b", f"127.0.0.1:{self.port}", app)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *words],
            env=os.environ
            | {"BISNES_ENV": str(settings.env_file), "BISNES_PROCESS": process, "BISNES_INSTANCE": process},
            cwd=ROOT,
        )
        eventually(lambda: self.process.poll() is not None or self._answers(health))
        assert self.process.poll() is None

    def _answers(self, path):
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.url + path, timeout=5).ok
        return False

    @property
    def worker(self):
        """The process that serves."""
        return psutil.Process(self.process.pid).children()[0]

    def connections(self):
        """Connections of clients that it holds; its database is on a Unix socket."""
        return sum(each.status != "LISTEN" for each in self.worker.net_connections("tcp"))

    def connect(self, data=b"", receive_buffer=None):
        """A connection on which this was sent."""
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(30)
        client.connect(("127.0.0.1", self.port))
        client.sendall(data)
        return client

    def ask(self, data):
        """The whole answer to these bytes, until the server closes the connection."""
        with self.connect() as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
            return everything(client)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()


@contextlib.contextmanager
def http_server(settings, app, process, health):
    server = HttpServer(settings, app, process, health)
    try:
        yield server
    finally:
        server.stop()


def everything(client):
    """All that comes, until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            received += part
    return received


def problem(answer):
    """Status and code of an answer that is one error in our form."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = json.loads(body)
    assert b"content-type: application/json" in head.lower()
    assert (found["success"], bool(found["error"])) == (False, True)
    return int(head.split()[1]), found["code"]


@contextlib.contextmanager
def held(connections):
    """Connections that are open for as long as this lasts."""
    try:
        yield connections
    finally:
        for each in connections:
            each.close()


def closed_by_server(clients, seconds=60):
    """Wait until the server has closed all of these."""
    until = time.monotonic() + seconds
    for client in clients:
        client.settimeout(max(until - time.monotonic(), 0.1))
        everything(client)
