"""A pooler in front of PostgreSQL, as PgBouncer is with its default settings: it refuses the startup option `options`.

It knows simple queries only, which is what psycopg2 sends.
"""

import contextlib
import socket
import struct
import threading
from pathlib import Path
from typing import Literal

from tests.support.waiting import HANG_SECONDS

Mode = Literal["session", "transaction", "statement"]

_ENCRYPTION_REQUESTS = (80877103, 80877104)  # TLS and GSSAPI
_CANCEL_REQUEST = 80877102
_VERSION = 196608


class Pooler:
    """Listens on a port of the loopback until it is closed; each connection gets a server as its mode says."""

    def __init__(self, sockets: Path, mode: Mode) -> None:
        """`sockets`: the folder of PostgreSQL's socket."""
        self._sockets, self._mode = sockets, mode
        self._idle: list[_Server] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def dsn(self, database: str, query: str = "") -> str:
        """The URL of a database behind the pooler."""
        return f"postgresql://bisnes@127.0.0.1:{self.port}/{database}{query}"

    def close(self) -> None:
        """Stop listening and end the idle servers."""
        self._listener.close()
        for server in self._idle:
            server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(HANG_SECONDS)
        with client, contextlib.suppress(OSError):
            parameters = _read_startup(client)
            if "options" in parameters:
                client.sendall(_message(b"E", b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"))
                return
            server = self._take(parameters["user"], parameters["database"])
            client.sendall(_message(b"R", struct.pack("!i", 0)) + server.reported)
            client.sendall(_message(b"K", struct.pack("!iI", -1, threading.get_native_id())) + _message(b"Z", b"I"))
            self._relay(client, server, parameters)

    def _relay(self, client: socket.socket, server: "_Server | None", parameters: dict[str, str]) -> None:
        try:
            while (request := _read(client))[0] != b"X":
                if self._mode == "statement" and request[1].startswith(b"BEGIN"):
                    return
                server = server or self._take(parameters["user"], parameters["database"])
                answer, state = server.ask(request)
                if self._mode != "session" and state == b"I":
                    with self._lock:
                        self._idle.append(server)
                    server = None
                client.sendall(answer)
        finally:
            if server is not None:
                server.close()

    def _take(self, user: str, database: str) -> "_Server":
        with self._lock:
            usable = [each for each in self._idle if each.database == database]
            if usable:
                self._idle.remove(usable[-1])
                return usable[-1]
        return _Server(self._sockets, user, database)


class _Server:
    """A connection to PostgreSQL."""

    def __init__(self, sockets: Path, user: str, database: str) -> None:
        self.database = database
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(HANG_SECONDS)
        self._socket.connect(str(sockets / ".s.PGSQL.5432"))
        pairs = f"user\0{user}\0database\0{database}\0client_encoding\0UTF8\0\0".encode()
        self._socket.sendall(struct.pack("!ii", len(pairs) + 8, _VERSION) + pairs)
        self.reported = b"".join(_message(*each) for each in self._until_ready() if each[0] == b"S")

    def ask(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Forward a message; return the answer and the state of the transaction."""
        self._socket.sendall(_message(*request))
        answer = self._until_ready()
        return b"".join(_message(*each) for each in answer), answer[-1][1]

    def close(self) -> None:
        self._socket.close()

    def _until_ready(self) -> list[tuple[bytes, bytes]]:
        found = [_read(self._socket)]
        while found[-1][0] != b"Z":
            found.append(_read(self._socket))
        return found


def _read_startup(client: socket.socket) -> dict[str, str]:
    while True:
        size, code = struct.unpack("!ii", _exactly(client, 8))
        if code == _CANCEL_REQUEST:
            raise ConnectionError
        if code not in _ENCRYPTION_REQUESTS:
            break
        client.sendall(b"N")
    words = _exactly(client, size - 8).decode().split("\0")
    return dict(zip(words[::2], words[1::2], strict=False))


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _read(stream: socket.socket) -> tuple[bytes, bytes]:
    kind, size = struct.unpack("!ci", _exactly(stream, 5))
    return kind, _exactly(stream, size - 4)


def _exactly(stream: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = stream.recv(size - len(found))
        if not part:
            raise ConnectionError
        found += part
    return found
