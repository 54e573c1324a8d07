"""The API's entry point: answers the hot path on the event loop and hands everything else to Flask.

Sending is where the load is, and WSGI's machinery costs more than the work itself (measured: 3.1 to 5.7 thousand
requests a second), so what is said with JSON alone (`POST …/messages/text/…`, `…/template/…`) is read here; what it
means is said by `services.api.messages.sends`. Flask's routes are served by `services.api.flask_side`.
"""

import asyncio
import gc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qs

import orjson
import structlog

from services.api.app import MAX_BODY, create_app
from services.api.auth import Principal, key_digest, principal_of
from services.api.callers import MAX_UPLOADS, Callers
from services.api.context import Context, wire
from services.api.event_stream import PATH as EVENTS
from services.api.event_stream import Streams
from services.api.flask_side import FlaskSide
from services.api.messages import sends
from services.api.messages.outcomes import Outcomes
from services.api.messages.payloads import PLAIN
from services.api.messages.sends import PREFIX, Reply
from services.database.connection import DatabaseUnavailable
from services.http_server.admission import Admission
from services.http_server.asgi import Receive, Scope, Send, send_json
from services.http_server.body import SPOOL_BYTES, read_small
from services.http_server.errors import ApiError, database_unavailable
from services.http_server.refusal import Refusal
from services.http_server.watchdog import Watchdog
from services.outbox.accept import IdempotencyConflict

#: What the addresses of the hot path begin with.
HOT = tuple(f"{PREFIX}{kind}/" for kind in PLAIN)
#: Threads that look up keys and bots for the event loop, those for keys that nobody is known by, and one company's.
LOOKUP_THREADS, STRANGER_THREADS, COMPANY_THREADS = 8, 2, 4

T = TypeVar("T")

log = structlog.get_logger()


class AsgiApp:
    """The ASGI application; `wire` connects it when the server starts."""

    def __init__(
        self,
        wire: Callable[[], Context],
        blueprints: Callable[[Context, Any], None] = lambda *_: None,
        open_bodies: Mapping[str, int] | None = None,
    ) -> None:
        """`blueprints` may add routes to the Flask application (the legacy process serves Meta's webhooks as well).

        `open_bodies`: what the addresses of these begin with that ask for no key, and the bytes of their bodies.
        """
        self._wire, self._blueprints, self._open_bodies = wire, blueprints, open_bodies or {}
        self._admission = Admission()
        self.watchdog = Watchdog(self._admission.progress)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or start and stop with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["method"] == "POST" and _is_hot(scope["path"]):
            await _answer(send, await self._send(scope, receive))
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == EVENTS:
            await self._stream(scope, receive, send)
        elif scope["type"] == "http":
            await self._flask.serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            if event == "lifespan.startup":
                self._start()
                await send({"type": "lifespan.startup.complete"})
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _start(self) -> None:
        self._context = self._wire()
        self._lookups = ThreadPoolExecutor(LOOKUP_THREADS, "lookups")
        self._stranger_lookups = ThreadPoolExecutor(STRANGER_THREADS, "strangers")
        self._streams, self._outcomes = Streams(self._context), Outcomes(self._context.database)
        self._callers = Callers(self._context.directory, tuple(self._open_bodies))
        self._uploads = Admission()
        flask = create_app(self._context)
        self._blueprints(self._context, flask)
        self._flask = FlaskSide(
            flask, self._callers, self._admission, self._uploads, self._outcomes, self._principal, self._open_bodies
        )
        self.watchdog.start()
        gc.freeze()  # what was made so far stays; collections need not look at it again

    async def _stop(self) -> None:
        self.watchdog.stop()
        self._streams.close()
        self._outcomes.close()
        self._flask.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)
        self._stranger_lookups.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._context.close)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            stream = await self._streams.open(scope)
        except ApiError as error:
            await _answer(send, _refusal(error))
        except DatabaseUnavailable:
            await _answer(send, _refusal(database_unavailable()))
        else:
            await self._streams.serve(stream, receive, send)

    async def _send(self, scope: Scope, receive: Receive) -> Reply:
        try:
            return await self._accept(scope, receive)
        except (ApiError, Refusal) as error:
            refused = error
        except (DatabaseUnavailable, IdempotencyConflict) as error:
            refused = sends.refusal(error)
        except Exception as error:
            log.exception("a request to send failed", path=scope["path"])
            refused = sends.refusal(error)
        return _refusal(refused)

    async def _accept(self, scope: Scope, receive: Receive) -> Reply:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
        digest = key_digest(headers.get(b"x-api-key"), headers.get(b"authorization"))
        principal = await self._principal(digest)
        kind, company_id, chat_id = scope["path"][len(PREFIX) :].split("/")
        principal.require_company(company_id)
        wait = _wait(scope["query_string"]) if scope["query_string"] else None
        body, idempotency_key = await self._body(principal, headers, receive), headers.get(b"idempotency-key")
        request = sends.parse(kind, company_id, chat_id, body, idempotency_key, wait)
        if not request.wait:
            return await self._store(principal, request)
        with self._outcomes.place(self._callers.of(scope, digest)):
            return await self._outcomes.follow(await self._store(principal, request))

    async def _body(self, principal: Principal, headers: dict[bytes, str], receive: Receive) -> bytes:
        length = headers.get(b"content-length")
        if length is not None and int(length) <= SPOOL_BYTES:
            return await read_small(receive, length, MAX_BODY)
        async with self._uploads.turn(principal.company_id, MAX_UPLOADS):
            return await read_small(receive, length, MAX_BODY)

    async def _principal(self, digest: bytes) -> Principal:
        """Whose key it is. Raises `ApiError` (401), `DatabaseUnavailable`."""
        directory = self._context.directory
        key = directory.cached_key(digest)
        if key is None:
            threads = self._lookups if self._callers.is_known(digest) else self._stranger_lookups
            key = await asyncio.get_running_loop().run_in_executor(threads, directory.key, digest)
            self._callers.note(digest, key)
        return principal_of(key)

    async def _store(self, principal: Principal, request: sends.Send) -> Reply:
        context, name = self._context, (request.company_id, request.phone_index)
        bot = context.directory.cached_bot(*name) or await self._ask(request, context.directory.bot, *name)
        if "quotedMessageId" in request.payload:
            await self._ask(request, sends.resolve_quote, context, request)
        entry = sends.entry(context, principal, request, bot)
        return sends.accepted(await asyncio.wrap_future(context.intake.accept(entry)), request)

    async def _ask(self, request: sends.Send, question: Callable[..., T], *values: Any) -> T:
        async with self._admission.turn(("lookups", request.company_id), COMPANY_THREADS):
            return await asyncio.get_running_loop().run_in_executor(self._lookups, question, *values)


_READ = {b"x-api-key", b"authorization", b"idempotency-key", b"content-length"}


def _is_hot(path: str) -> bool:
    return path.startswith(HOT) and path.count("/", len(PREFIX)) == 2 and not path.endswith("/")


def _wait(query: bytes) -> str | None:
    return parse_qs(query.decode("latin-1"), keep_blank_values=True).get("wait", [None])[0]


def _refusal(error: ApiError | Refusal) -> Reply:
    if isinstance(error, Refusal):
        error = ApiError(error.status, error.code, error.message, error.headers)
    return Reply(error.status, error.body(), tuple(error.headers.items()))


async def _answer(send: Send, reply: Reply) -> None:
    await send_json(send, reply.status, orjson.dumps(reply.body), reply.headers)


app = AsgiApp(wire)
