"""The server of our HTTP processes under gunicorn: uvicorn with our limits, which ends in time even if clients hang."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Any, ClassVar

import structlog
from uvicorn_worker import UvicornWorker

from bisnesctl import addresses, release
from bisnesctl.setting_types import Network
from services.http_server.protocol import HttpProtocol

#: Seconds for open answers once the process is to end; gunicorn's graceful_timeout kills after two more.
DRAIN_TIMEOUT_SECONDS = 6

log = structlog.get_logger()


class Worker(UvicornWorker):  # type: ignore[misc]
    """gunicorn's worker. Every client could send headers that name a client, so only those of `trust` count."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **UvicornWorker.CONFIG_KWARGS,
        "http": HttpProtocol,
        "ws": "none",
        "proxy_headers": False,
        "server_header": False,
        "timeout_graceful_shutdown": DRAIN_TIMEOUT_SECONDS,
    }

    #: The name of the instance; empty if it is not known.
    instance = ""
    _is_ready = False

    async def callback_notify(self) -> None:
        """Called by uvicorn once it serves, and regularly from then on."""
        if not self._is_ready:
            self._is_ready = True
            places = ", ".join(_place(each.getsockname()) for each in self.sockets)
            log.info("http.ready", instance=self.instance, address=places, release=str(release.installed()))
        await super().callback_notify()

    def trust(self, proxies: Iterable[Network]) -> None:
        """Believe the headers X-Forwarded-For and X-Forwarded-Proto of these proxies. To be called before it serves."""
        trusted = [str(each) for network in proxies for each in _forms(network)]
        self.config.proxy_headers, self.config.forwarded_allow_ips = bool(trusted), trusted


def _place(address: str | tuple[Any, ...]) -> str:
    """The host and port of a socket, or its path."""
    return address if isinstance(address, str) else addresses.host_and_port(*address[:2])


def _forms(network: Network) -> Iterator[Network]:
    """A network, and the form in which its addresses reach a socket that listens on IPv6 too."""
    yield network
    if isinstance(network, IPv4Network):
        yield IPv6Network((f"::ffff:{network.network_address}", 96 + network.prefixlen))
