"""The types of ASGI that we use, and complete answers."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from services.http_server import refusal
from services.http_server.refusal import Refusal

#: Bits of an IPv6 address that name a client's network; a client may use all addresses of it.
IPV6_NETWORK_BITS = 64

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def send_json(send: Send, status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
    """Send a JSON answer."""
    lines = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    lines += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def send_refusal(send: Send, refused: Refusal) -> None:
    """Send a refusal."""
    await send_json(send, refused.status, refused.content(), refused.headers.items())


async def disconnection(receive: Receive) -> None:
    """Wait until the client disconnects. For a request whose body is complete."""
    while (await receive())["type"] != "http.disconnect":
        pass


def network_of(scope: Scope) -> str:
    """The network from which a request came; see `network_of_address`."""
    return network_of_address(address_of(scope))


def address_of(scope: Scope) -> str:
    """The address of a request's client; empty on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def network_of_address(address: str) -> str:
    """The name under which a client's address counts: all addresses of an IPv6 network are one client's."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(ip_network((found, IPV6_NETWORK_BITS), strict=False))
    return address


def check_path(scope: Scope) -> None:
    """Raise `Refusal` (404) for a path that WSGI applications would confuse with another one."""
    if scope["path"].startswith("//"):
        raise refusal.not_found()


def content_length(scope: Scope) -> int | None:
    """The declared length of a request's body, or None."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return None
