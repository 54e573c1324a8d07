"""A process whose HTTP is a WSGI application behind the bridge, such as the receiver of Meta's webhooks."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from services.http_server import refusal, request_ids
from services.http_server.admission import MAX_QUEUE, Admission, Share
from services.http_server.asgi import Receive, Scope, Send, check_path, disconnection, network_of, send_refusal
from services.http_server.body import BodyReader
from services.http_server.refusal import Refusal
from services.http_server.watchdog import Watchdog
from services.http_server.wsgi_bridge import Answer, Environ, WsgiBridge
from services.runtime.heartbeat import Counters
from services.runtime.logging_setup import current_request

#: Threads of a process.
THREADS = 36
#: Threads of those that serve its health alone.
HEALTH_THREADS = 4
#: Of these, those of one client's address, so that nobody's requests keep a load balancer's or a probe's waiting.
HEALTH_THREADS_PER_ADDRESS = 2

#: The beginnings of the addresses of health.
_HEALTH = ("/health", "/api/health", "/metrics")
_HEALTH_SHARE = Share("health", HEALTH_THREADS, HEALTH_THREADS_PER_ADDRESS)

log = structlog.get_logger()


class Application(Protocol):
    """A WSGI application with the counters that its process's heartbeat shows."""

    counters: Counters

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]: ...


def _nothing() -> None:
    """For applications that do nothing beside serving."""


@dataclass(frozen=True)
class Hooks:
    """The work of an application beside serving."""

    start: Callable[[], None] = _nothing
    stop: Callable[[], None] = _nothing


class Service:
    """The ASGI application around it."""

    def __init__(
        self,
        app: Application,
        max_body: int,
        hooks: Hooks | None = None,
        threads: int = THREADS,
        max_queue: int = MAX_QUEUE,
        share_of: Callable[[Scope], Share] | None = None,
        large_body: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        """`max_body`: bytes of a body, at most; the application refuses a larger one.

        `large_body`: bytes of a body at a path that takes larger ones; None for all others.

        `max_queue`: requests that may wait for threads. `share_of`: the share of a request's caller; without it, all
        requests but those for health are one caller's.
        """
        self.counters = app.counters
        self._max_body, self._hooks, self._share = max_body, hooks or Hooks(), Share("all", threads - HEALTH_THREADS)
        self._bridge, self._bodies, self._admission = WsgiBridge(app, threads), BodyReader(), Admission(max_queue)
        self._share_of, self._large_body = share_of or self._one_share, large_body
        self.watchdog = Watchdog(self._admission.progress)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or start and stop with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            current_request.set(request_ids.of(scope))
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            if event == "lifespan.startup":
                self.watchdog.start()
                self._hooks.start()
                await send({"type": "lifespan.startup.complete"})
        self.watchdog.stop()
        await asyncio.to_thread(self._hooks.stop)
        self._bridge.close()
        self._bodies.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        try:
            answer = await self._answer(scope, receive)
            self.counters.responses += 1
            self.counters.response_seconds += time.monotonic() - began
        except Refusal as refused:
            await send_refusal(send, refused)
        except Exception:
            log.exception("request.failed", path=scope["path"])
            await send_refusal(send, refusal.internal())
        else:
            await self._bridge.send(answer, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        check_path(scope)
        limit = self._large_body(scope["path"]) or self._max_body
        body = await self._bodies.read_request(scope, receive, limit)
        share = _HEALTH_SHARE if scope["path"].startswith(_HEALTH) else self._share_of(scope)
        async with self._admission.admit(share, network_of(scope), lambda: disconnection(receive)):
            return await self._bridge.run(scope, body)

    def _one_share(self, _: Scope) -> Share:
        return self._share
