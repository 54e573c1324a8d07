"""The API's entry point: answers the hot path on the event loop and hands all other requests to Flask.

Most of the load is sends, and WSGI's machinery costs more than the work itself (measured: 3.1 to 5.7 thousand requests
a second). So `POST …/messages/text/…` and `…/template/…`, which need no file, are answered by
`services.api.messages.sends.HotPath`. Other requests take a thread for Flask once their body is complete and it is
their caller's turn.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import orjson
import structlog
from flask import Flask

from services.api.app import create_app
from services.api.auth import (
    HEALTH_THREADS,
    STRANGER_THREADS,
    Caller,
    Callers,
    digest_of,
)
from services.api.context import Context, wire
from services.api.event_stream import PATH as EVENTS
from services.api.event_stream import Streams
from services.api.messages.outcomes import PENDING, Outcomes, Reply
from services.api.messages.sends import MAX_UPLOADS, HotPath, is_hot
from services.api.routes.media_messages import body_limit
from services.database.connection import DatabaseUnavailable
from services.http_server import refusal, request_ids
from services.http_server.admission import Admission
from services.http_server.asgi import (
    Receive,
    Scope,
    Send,
    check_path,
    content_length,
    disconnection,
    network_of,
    send_json,
    send_refusal,
)
from services.http_server.body import MAX_BODY, SPOOL_BYTES, Body, BodyReader
from services.http_server.errors import ApiError, database_refusal
from services.http_server.protocol import ANSWER
from services.http_server.refusal import Refusal
from services.http_server.watchdog import Watchdog
from services.http_server.wsgi_bridge import Answer, WsgiBridge
from services.runtime.heartbeat import Counters
from services.runtime.logging_setup import current_request

#: Threads for Flask's requests with a key.
FLASK_THREADS = 32
log = structlog.get_logger()


class AsgiApp:
    """The ASGI application; `wire` connects it when the server starts."""

    def __init__(
        self,
        wire: Callable[[Counters], Context],
        blueprints: Callable[[Context, Any], None] = lambda *_: None,
        open_bodies: Mapping[str, int] | None = None,
    ) -> None:
        """`blueprints` may add routes to the Flask application (the legacy process also serves Meta's webhooks).

        `open_bodies`: the beginnings of addresses that need no key, with the maximum bytes of their bodies.
        """
        self.counters = Counters()  # reported by the heartbeat of the process
        self._wire = wire
        self._blueprints = blueprints
        self._open_bodies = open_bodies or {}
        self._admission = Admission()
        self.watchdog = Watchdog(self._admission.progress)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or start and stop with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        current_request.set(request_ids.of(scope))
        if scope["type"] == "http" and scope["method"] == "POST" and is_hot(scope["path"]):
            began = time.monotonic()
            reply = await self._hot_path.send(scope, receive)
            self._count(began, reply.status, scope)
            await _answer(scope, send, reply)
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == EVENTS:
            await self._stream(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve_flask(scope, receive, send)

    def _count(self, began: float, status: int, scope: Scope) -> None:
        """Count an answer. One that waited for an outcome says nothing about the speed of the API."""
        counters = self.counters
        if not scope["query_string"] or b"wait=" not in scope["query_string"]:
            counters.responses += 1
            counters.response_seconds += time.monotonic() - began
        if status >= 500:
            counters.fail(f"{scope['method']} {scope['path'].rpartition('/')[0]}/… was answered with {status}")

    async def _live(self, receive: Receive, send: Send) -> None:
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            if event == "lifespan.startup":
                self._start()
                await send({"type": "lifespan.startup.complete"})
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _start(self) -> None:
        context = self._context = self._wire(self.counters)
        self._streams = Streams(context)
        self._outcomes = Outcomes(context.database)
        self._callers = Callers(context.accounts, context.quotas, tuple(self._open_bodies))
        self._uploads = Admission()
        self._hot_path = HotPath(context, self._callers, self._outcomes, self._admission, self._uploads)
        self._bodies = BodyReader()
        flask: Flask = create_app(context)
        self._blueprints(context, flask)
        self._keyed = WsgiBridge(flask, FLASK_THREADS, "flask")
        self._keyless = WsgiBridge(flask, STRANGER_THREADS + HEALTH_THREADS, "keyless")
        self.watchdog.start()
        gc.freeze()  # what exists now stays: later collections need not examine it

    async def _stop(self) -> None:
        self.watchdog.stop()
        parts = (self._streams, self._outcomes, self._callers, self._hot_path, self._bodies, self._keyed, self._keyless)
        for part in parts:
            part.close()
        await asyncio.to_thread(self._context.close)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            stream = await self._streams.open(scope)
        except ApiError as error:
            await send_refusal(send, error)
        except DatabaseUnavailable as error:
            await send_refusal(send, database_refusal(error))
        else:
            await self._streams.serve(stream, receive, send)

    # All other requests

    async def _serve_flask(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        try:
            check_path(scope)
            digest = _digest(scope)
            caller = self._callers.of(scope, digest)
            with self._outcomes.place(caller) if caller.waits and _waits(scope) else nullcontext():
                caller, body = await self._body(scope, receive, caller)
                answer = await self._run(scope, receive, caller, body)
                self._count(began, answer.status, scope)
                if digest is not None and answer.status == 401:
                    self._callers.note(digest, None)
                if PENDING in answer.environ:
                    await _answer(scope, send, await self._outcomes.follow(answer.environ[PENDING]))
                    return
            await self._bridge(caller).send(answer, receive, send)
        except Refusal as refused:
            self._count(began, refused.status, scope)
            await send_refusal(send, refused)

    def _bridge(self, caller: Caller) -> WsgiBridge:
        return self._keyed if caller.has_key else self._keyless

    async def _run(self, scope: Scope, receive: Receive, caller: Caller, body: Body) -> Answer:
        try:
            async with self._admission.admit(caller.share, network_of(scope), lambda: disconnection(receive)):
                return await self._bridge(caller).run(scope, body)
        except Refusal:
            raise
        except Exception:
            log.exception("request.failed", path=scope["path"])
            raise refusal.internal() from None
        finally:
            body.file.close()

    async def _body(self, scope: Scope, receive: Receive, caller: Caller) -> tuple[Caller, Body]:
        """The body. A large one is read only if its key is valid, and only `MAX_UPLOADS` of a caller at a time."""
        if _is_small(scope):
            return caller, await self._bodies.read_request(scope, receive, MAX_BODY)
        if not caller.has_key:
            try:
                _, caller = await self._callers.identify(scope)
            except DatabaseUnavailable as error:
                raise database_refusal(error) from None
        async with self._uploads.turn(caller.name, MAX_UPLOADS):
            return caller, await self._bodies.read_request(scope, receive, self._limit(scope))

    def _limit(self, scope: Scope) -> int:
        path: str = scope["path"]
        for prefix, limit in self._open_bodies.items():
            if path.startswith(prefix):
                return limit
        content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        return body_limit(path, content_type.decode("latin-1")) or MAX_BODY


def _waits(scope: Scope) -> bool:
    return scope["method"] != "GET" and b"wait=" in scope["query_string"]


def _digest(scope: Scope) -> bytes | None:
    try:
        return digest_of(scope)
    except ApiError:
        return None


def _is_small(scope: Scope) -> bool:
    length = content_length(scope)
    if length is not None:
        return length <= SPOOL_BYTES
    return all(name != b"transfer-encoding" for name, _ in scope["headers"])


async def _answer(scope: Scope, send: Send, reply: Reply) -> None:
    body, answer = orjson.dumps(reply.body), scope.get(ANSWER)
    if reply.headers or answer is None or not answer(reply.status, body):
        await send_json(send, reply.status, body, reply.headers)


app = AsgiApp(wire)
