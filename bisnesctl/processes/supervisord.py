"""supervisord itself, with one addition: the socket that it binds for a program may have an IPv6 address.

`python -m bisnesctl.processes.supervisord` takes the arguments of `supervisord`. supervisord 4.3 knows IPv4 only; the
addition relies on its internals, hence the pinned version and the contract test.
"""

import re
import socket
import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_modules["ssl"] = None  # not importable: its servers are sockets of this machine, and OpenSSL takes a megabyte

from supervisor import supervisord  # noqa: E402
from supervisor.datatypes import InetStreamSocketConfig  # noqa: E402
from supervisor.options import ServerOptions  # noqa: E402

_IPV6 = re.compile(r"tcp://\[(?P<host>[^\]]+)\]:(?P<port>\d+)")


class Ipv6SocketConfig(InetStreamSocketConfig):  # type: ignore[misc]
    """A socket with an IPv6 address."""

    def create_and_bind(self) -> socket.socket:
        """The bound socket."""
        bound = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(self.addr())
        except OSError:
            bound.close()
            raise
        return bound


class Options(ServerOptions):  # type: ignore[misc]
    """supervisord's options."""

    def parse_fcgi_socket(self, sock: str, *details: Any) -> Any:
        """The socket of a program that its section describes."""
        if found := _IPV6.fullmatch(sock):
            return Ipv6SocketConfig(found["host"], int(found["port"]), backlog=details[-1])
        return super().parse_fcgi_socket(sock, *details)


if __name__ == "__main__":
    supervisord.ServerOptions = Options
    supervisord.main()
