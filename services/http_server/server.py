"""The server of our HTTP processes under gunicorn: uvicorn with our limits, which ends in time even if clients hang."""

import asyncio
import contextlib
import faulthandler
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from ipaddress import IPv4Network, IPv6Network
from types import FrameType
from typing import Any, ClassVar

import structlog
from gunicorn.arbiter import Arbiter
from uvicorn.server import Server as UvicornServer
from uvicorn.server import ServerState
from uvicorn_worker import UvicornWorker

from bisnesctl import addresses, release
from bisnesctl.setting_types import Network
from services.http_server.protocol import HttpProtocol

#: Seconds for open answers once the process is to end; gunicorn's graceful_timeout ends it after two more.
DRAIN_TIMEOUT_SECONDS = 6
#: Seconds between two signs of life for gunicorn's master of the legacy process, which waits far longer.
SIGN_OF_LIFE_SECONDS = 30.0
#: Signals that ask to end, besides SIGTERM and SIGINT.
_MORE_STOP_SIGNALS = (signal.SIGQUIT, signal.SIGHUP)

log = structlog.get_logger()


class _State(ServerState):
    """The state of a server. Its answers have the date of the second in which they begin."""

    def __init__(self) -> None:
        self._second = 0
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every answer."""
        second = int(time.time())
        if second != self._second:
            self._second, self._headers = second, [(b"date", formatdate(second, usegmt=True).encode())]
        return self._headers

    @default_headers.setter
    def default_headers(self, _: object) -> None:
        """uvicorn sets them every second, whether or not somebody asks."""


class Server(UvicornServer):
    """uvicorn's server, which sleeps while there is nothing to do: uvicorn itself wakes ten times a second."""

    def __init__(self, config: Any, stop_timeout: float) -> None:
        """`stop_timeout`: seconds after a signal to stop after which the process ends in any case.

        The stacks of its threads are then written to its log.
        """
        super().__init__(config)
        self._stop_timeout = stop_timeout
        self.server_state = _State()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_to_exit = asyncio.Event()

    async def main_loop(self) -> None:
        """Serve until a signal asks to end."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked_to_exit.wait(), SIGN_OF_LIFE_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for a signal that asks to end. After uvicorn's own handler the process would end by that signal."""
        if not self.should_exit:
            faulthandler.dump_traceback_later(self._stop_timeout, exit=True)
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._asked_to_exit.set)


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

    async def _serve(self) -> None:
        """Called by uvicorn_worker, whose own way makes uvicorn's server."""
        self.config.app = self.wsgi
        server = Server(self.config, self.cfg.graceful_timeout)
        for signum in _MORE_STOP_SIGNALS:
            signal.signal(signum, server.handle_exit)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # gunicorn's master would start a second one
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

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
