"""Questions to the embedded Redis, without the Redis client: that takes seven megabytes of every process that asks.

The embedded Redis listens at a socket of this machine and has no password. Commands and replies have the form of
Redis's protocol, RESP.
"""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO


class Refused(Exception):
    """Redis answered with an error; the text is its own."""


def ask(path: Path, commands: Sequence[str], timeout: float) -> list[str]:
    """The replies to some commands. `timeout`: seconds for each. Raises `Refused` and `OSError`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        with connection.makefile("rb") as replies:
            return [_ask(connection, replies, command) for command in commands]


def _ask(connection: socket.socket, replies: BinaryIO, command: str) -> str:
    connection.sendall(f"{command}\r\n".encode())
    line = replies.readline()
    kind, text = line[:1], line[1:].decode(errors="replace").strip()
    if kind == b"-":
        raise Refused(text)
    if kind == b"$":
        return replies.read(int(text) + len(b"\r\n")).decode(errors="replace").strip()
    if not line.endswith(b"\n"):
        raise ConnectionError("it closed the connection")
    return text
