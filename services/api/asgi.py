"""The API's entry point: answers the hot path on the event loop and hands everything else to Flask.

Sending is where the load is, and WSGI's machinery costs more than the work itself (measured: 3.1 to 5.7 thousand
requests a second), so what is said with JSON alone (`POST …/messages/text/…`, `…/template/…`) is read here; what it
means is said by `services.api.sends`. Messages with a file have threads of their own, since uploads may take minutes.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import orjson
import structlog
from a2wsgi import WSGIMiddleware

from services.api import sends
from services.api.app import MAX_BODY, create_app
from services.api.auth import Principal, key_digest, principal_of
from services.api.contents import PLAIN
from services.api.context import Context, wire
from services.api.errors import ApiError, database_unavailable
from services.api.sends import Reply, Send
from services.api.stream import PATH as EVENTS
from services.api.stream import Streams
from services.intake import IdempotencyConflict
from services.store import DatabaseUnavailable

#: Threads for everything that Flask answers.
FLASK_THREADS = 16
#: Threads for the sends that Flask answers; those that upload slowly, or wait for an outcome, hold up nothing else.
SENDING_THREADS = 32
PREFIX = "/api/v2/messages/"
#: What the addresses of the hot path begin with, and those of all sends.
HOT, SENDING = tuple(f"{PREFIX}{kind}/" for kind in PLAIN), (PREFIX, "/api/messages/")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Sending = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = structlog.get_logger()


class Front:
    """The ASGI application; `wire` connects it when the server starts."""

    def __init__(
        self, wire: Callable[[], Context], blueprints: Callable[[Context, Any], None] = lambda *_: None
    ) -> None:
        """`blueprints` may add routes to the Flask application (the legacy process serves Meta's webhooks as well)."""
        self._wire, self._blueprints = wire, blueprints
        self._context: Context | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Sending) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["method"] == "POST" and _is_send(scope["path"]):
            await _answer(send, await self._send(scope, receive))
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == EVENTS:
            await self._stream(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(SENDING):
            await self._flask_sending(scope, receive, send)  # type: ignore[arg-type]
        else:
            await self._flask(scope, receive, send)  # type: ignore[arg-type]

    async def _live(self, receive: Receive, send: Sending) -> None:
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            if event == "lifespan.startup":
                self._context = self._wire()
                self._streams = Streams(self._context)
                flask = create_app(self._context)
                self._blueprints(self._context, flask)
                self._flask = WSGIMiddleware(flask, workers=FLASK_THREADS)  # type: ignore[arg-type]
                self._flask_sending = WSGIMiddleware(flask, workers=SENDING_THREADS)  # type: ignore[arg-type]
                gc.freeze()  # what was made so far stays; collections need not look at it again
                await send({"type": "lifespan.startup.complete"})
        if self._context is not None:
            self._streams.close()
            await asyncio.to_thread(self._context.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _send(self, scope: Scope, receive: Receive) -> Reply:
        try:
            return await self._accept(scope, receive)
        except ApiError as error:
            refused = error
        except (DatabaseUnavailable, IdempotencyConflict) as error:
            refused = sends.refusal(error)
        except Exception as error:
            log.exception("a request to send failed", path=scope["path"])
            refused = sends.refusal(error)
        return _refusal(refused)

    async def _stream(self, scope: Scope, receive: Receive, send: Sending) -> None:
        try:
            stream = await self._streams.open(scope)
        except ApiError as error:
            await _answer(send, _refusal(error))
        except DatabaseUnavailable:
            await _answer(send, _refusal(database_unavailable()))
        else:
            await self._streams.serve(stream, receive, send)

    async def _accept(self, scope: Scope, receive: Receive) -> Reply:
        assert self._context is not None, "the server starts the application first"  # noqa: S101
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
        digest = key_digest(headers.get(b"x-api-key"), headers.get(b"authorization"))
        principal = await self._principal(self._context, digest)
        kind, company_id, chat_id = scope["path"][len(PREFIX) :].split("/")
        principal.require_company(company_id)
        wait = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("wait", [None])[-1]
        body, idempotency_key = await _read(headers, receive), headers.get(b"idempotency-key")
        request = sends.parse(kind, company_id, chat_id, body, idempotency_key, wait)
        return await self._store(self._context, principal, request)

    async def _principal(self, context: Context, digest: bytes) -> Principal:
        key = context.directory.remembered(digest)
        return principal_of(key if key is not None else await asyncio.to_thread(context.directory.key, digest))

    async def _store(self, context: Context, principal: Principal, request: Send) -> Reply:
        name = request.company_id, request.phone_index
        bot = context.directory.remembered(name) or await asyncio.to_thread(context.directory.bot, *name)
        if "quotedMessageId" in request.payload:
            await asyncio.to_thread(sends.resolve_quote, context, request)
        entry = sends.entry(context, principal, request, bot)
        answer = await asyncio.wrap_future(context.intake.accept(entry))
        reply = sends.accepted(answer, request)
        for pause in sends.looks(request.wait):
            await asyncio.sleep(pause)
            reply = await asyncio.to_thread(sends.outcome, context, answer.message_id, request.chat_id)
            if reply.body["status"].settled:
                break
        return reply


_READ = {b"x-api-key", b"authorization", b"idempotency-key", b"content-length"}


def _is_send(path: str) -> bool:
    return path.startswith(HOT) and path.count("/", len(PREFIX)) == 2 and not path.endswith("/")


def _refusal(error: ApiError) -> Reply:
    return Reply(error.status, error.body(), tuple(error.headers.items()))


async def _read(headers: dict[bytes, str], receive: Receive) -> bytes:
    if int(headers.get(b"content-length", "0")) > MAX_BODY:
        raise ApiError(413, "too_large", f"the body may have {MAX_BODY} bytes at most")
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ApiError(400, "invalid_request", "the connection was closed before the body was complete")
        body += bytes(event.get("body", b""))
        if len(body) > MAX_BODY:
            raise ApiError(413, "too_large", f"the body may have {MAX_BODY} bytes at most")
        if not event.get("more_body"):
            return body


async def _answer(send: Sending, reply: Reply) -> None:
    body = orjson.dumps(reply.body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = Front(wire)
