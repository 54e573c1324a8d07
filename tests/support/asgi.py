"""Requests to an ASGI application in the test's own event loop, from any address."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from services.http_server.asgi import Receive, Scope, Send

Header = tuple[bytes, bytes]


def scope_of(path: str, address: str = "127.0.0.1", headers: tuple[Header, ...] = ()) -> Scope:
    """A GET."""
    return {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
        "http_version": "1.1", "scheme": "http", "headers": [(b"host", b"127.0.0.1"), *headers],
        "client": (address, 50_000), "server": ("127.0.0.1", 80),
    }  # fmt: skip


async def status_of(app: Any, scope: Scope) -> int:
    """The status of the answer. The client stays connected."""
    bodies: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]
    statuses: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        if not bodies:
            await asyncio.Event().wait()
        return bodies.pop()

    async def send(event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            statuses.append(event["status"])

    as_receive: Receive = receive
    as_send: Send = send
    await app(scope, as_receive, as_send)
    return statuses[0]
