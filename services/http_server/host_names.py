"""The names under which this server may be requested: protects open addresses from web pages (DNS rebinding).

The owner of a public domain can have its name lead to any address, such as the loopback address of a visitor. A page of
that domain then reads our answers, because to the browser they come from the page's own site. The browser sends the
domain as the header Host.
"""

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

#: The beginnings of addresses without a key that show the state of the server and the API.
STATE = ("/health/all", "/metrics", "/openapi")
#: Ends of names that nobody can register on the internet (RFC 6761, RFC 8375, ICANN), and of services in Kubernetes.
_UNREGISTERED = (".localhost", ".local", ".internal", ".home.arpa", ".svc")


class HostNames:
    """The names of one server."""

    def __init__(self, public_urls: Iterable[str]) -> None:
        """`public_urls`: the URLs by which the internet reaches the server."""
        own = (socket.gethostname(), *(urlsplit(url).hostname or "" for url in public_urls))
        self._own = frozenset(name.lower() for name in own)

    def include(self, host: str) -> bool:
        """Whether a header Host has a name of the server, an IP address, or a name that only private networks have."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        name = name.removesuffix(".")
        return "." not in name or name in self._own or name.endswith(_UNREGISTERED) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
