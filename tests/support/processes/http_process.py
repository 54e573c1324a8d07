"""An HTTP process as supervisord runs it, and clients that violate the protocol."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import psutil
import requests

from bisnesctl.settings import Settings
from tests.support.sandbox import eventually, free_port
from tests.support.waiting import HANG_SECONDS

#: Limits that a test can reach. The environment can name others, such as those of a release that has none.
CONFIG = os.environ.get("TEST_GUNICORN_CONFIG", "python:tests.support.processes.tight_limits")
ROOT = Path(__file__).parents[3]


class Port:
    """A port of this machine, and clients that violate the protocol."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def connect(self, data: bytes = b"", receive_buffer: int | None = None) -> socket.socket:
        """Open a connection and send these bytes."""
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(HANG_SECONDS)
        client.connect(("127.0.0.1", self.port))
        client.sendall(data)
        return client

    def ask(self, data: bytes) -> bytes:
        """Send these bytes, and return the answer until the server closes the connection."""
        with self.connect() as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
            return everything(client)


class HttpServer(Port):
    """One process under gunicorn."""

    def __init__(self, settings: Settings, app: str, process: str, health: str, errors: IO[str] | None = None) -> None:
        """`health`: a path that is answered as soon as the process serves. `errors`: its standard error."""
        super().__init__(free_port())
        words = ("-c", CONFIG, "--no-control-socket", "-b", f"127.0.0.1:{self.port}", app)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *words],
            env=os.environ
            | {"BISNES_ENV": str(settings.env_file), "BISNES_PROCESS": process, "BISNES_INSTANCE": process},
            cwd=ROOT,
            stderr=errors,
        )
        eventually(lambda: self.process.poll() is not None or self._answers(health))
        assert self.process.poll() is None

    def _answers(self, path: str) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.url + path, timeout=HANG_SECONDS).ok
        return False

    @property
    def worker(self) -> psutil.Process:
        """The process that serves: that of the instance, or below the master of the legacy process."""
        started = psutil.Process(self.process.pid)
        return next(iter(started.children()), started)

    def connections(self) -> int:
        """How many connections of clients are open. Its database is on a Unix socket."""
        return sum(each.status != "LISTEN" for each in self.worker.net_connections("tcp"))

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(HANG_SECONDS)
        finally:
            self.process.kill()


@contextlib.contextmanager
def http_server(
    settings: Settings, app: str, process: str, health: str, errors: IO[str] | None = None
) -> Iterator[HttpServer]:
    """A process that runs within the context."""
    server = HttpServer(settings, app, process, health, errors)
    try:
        yield server
    finally:
        server.stop()


def everything(client: socket.socket) -> bytes:
    """All bytes that arrive until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            received += part
    return received


def problem(answer: bytes) -> tuple[int, str]:
    """Status and code of an answer, which has to be one error in our form."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = json.loads(body)
    assert b"content-type: application/json" in head.lower()
    assert (found["success"], bool(found["error"])) == (False, True)
    return int(head.split()[1]), found["code"]


@contextlib.contextmanager
def held(connections: Sequence[socket.socket]) -> Iterator[Sequence[socket.socket]]:
    """Keep connections open within the context."""
    try:
        yield connections
    finally:
        for each in connections:
            each.close()


def closed_by_server(clients: Sequence[socket.socket]) -> None:
    """Wait until the server has closed all of these connections."""
    for client in clients:
        client.settimeout(2 * HANG_SECONDS)
        everything(client)
