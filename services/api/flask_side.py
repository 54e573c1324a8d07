"""Flask's routes behind the event loop: a request takes a thread once its body is here, and in its caller's turn."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext

import orjson
import structlog
from flask import Flask

from services.api.app import MAX_BODY
from services.api.auth import Principal, key_digest
from services.api.callers import (
    HEALTH_THREADS,
    KEY_HEADERS,
    MAX_UPLOADS,
    STRANGER_THREADS,
    Caller,
    Callers,
    digest_of,
)
from services.api.messages.outcomes import Outcomes
from services.api.messages.sends import PENDING
from services.api.routes.media_messages import body_limit
from services.database.connection import DatabaseUnavailable
from services.http_server import refusal
from services.http_server.admission import Admission
from services.http_server.asgi import Receive, Scope, Send, check_path, content_length, send_json, send_refusal
from services.http_server.body import SPOOL_BYTES, Body, BodyReader
from services.http_server.errors import ApiError, database_refusal
from services.http_server.refusal import Refusal
from services.http_server.wsgi_bridge import Answer, WsgiBridge

#: Threads for requests with a key.
FLASK_THREADS = 32

log = structlog.get_logger()


class FlaskSide:
    """Serves a Flask application. Requests without a key have threads of their own."""

    def __init__(
        self, flask: Flask, callers: Callers, admission: Admission, uploads: Admission, outcomes: Outcomes,
        authenticate: Callable[[bytes], Awaitable[Principal]], open_bodies: Mapping[str, int],
    ) -> None:  # fmt: skip
        """`open_bodies`: see `services.api.asgi.AsgiApp`."""
        self._callers, self._admission, self._uploads, self._outcomes = callers, admission, uploads, outcomes
        self._authenticate, self._open_bodies = authenticate, open_bodies
        self._bodies = BodyReader()
        self._keyed = WsgiBridge(flask, FLASK_THREADS, "flask")
        self._keyless = WsgiBridge(flask, STRANGER_THREADS + HEALTH_THREADS, "keyless")

    def close(self) -> None:
        """Let go of the threads."""
        for part in (self._bodies, self._keyed, self._keyless):
            part.close()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            await self._serve(scope, receive, send)
        except ApiError as error:
            await send_refusal(send, Refusal(error.status, error.code, error.message, error.headers))
        except Refusal as refused:
            await send_refusal(send, refused)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_path(scope)
        digest = digest_of(scope)
        caller = self._callers.of(scope, digest)
        with self._outcomes.place(caller) if caller.waits and _waits(scope) else nullcontext():
            caller, body = await self._body(scope, receive, caller)
            answer = await self._run(scope, caller, body)
            if digest is not None and answer.status == 401:
                self._callers.note(digest, None)
            if PENDING in answer.environ:
                reply = await self._outcomes.follow(answer.environ[PENDING])
                await send_json(send, reply.status, orjson.dumps(reply.body), reply.headers)
                return
        await self._bridge(caller).send(answer, receive, send)

    def _bridge(self, caller: Caller) -> WsgiBridge:
        return self._keyed if caller.has_key else self._keyless

    async def _run(self, scope: Scope, caller: Caller, body: Body) -> Answer:
        try:
            async with self._admission.turn(caller.name, caller.threads):
                return await self._bridge(caller).run(scope, body)
        except Refusal:
            raise
        except Exception:
            log.exception("a request failed", path=scope["path"])
            raise refusal.internal() from None
        finally:
            body.file.close()

    async def _body(self, scope: Scope, receive: Receive, caller: Caller) -> tuple[Caller, Body]:
        """The body. A large one is read for those alone whose key is known to be good, and so many at a time."""
        limit = self._limit(scope)
        if _is_small(scope):
            return caller, await self._bodies.read_request(scope, receive, limit)
        if not caller.has_key:
            caller = await self._known_caller(scope)
        async with self._uploads.turn(caller.name, MAX_UPLOADS):
            return caller, await self._bodies.read_request(scope, receive, limit)

    async def _known_caller(self, scope: Scope) -> Caller:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in KEY_HEADERS}
        digest = key_digest(headers.get(b"x-api-key"), headers.get(b"authorization"))
        try:
            await self._authenticate(digest)
        except DatabaseUnavailable as error:
            raise database_refusal(error) from None
        return self._callers.of(scope, digest)

    def _limit(self, scope: Scope) -> int:
        path: str = scope["path"]
        for prefix, limit in self._open_bodies.items():
            if path.startswith(prefix):
                return limit
        content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        return body_limit(path, content_type.decode("latin-1")) or MAX_BODY


def _is_small(scope: Scope) -> bool:
    length = content_length(scope)
    if length is not None:
        return length <= SPOOL_BYTES
    return all(name != b"transfer-encoding" for name, _ in scope["headers"])


def _waits(scope: Scope) -> bool:
    return scope["method"] != "GET" and b"wait=" in scope["query_string"]
