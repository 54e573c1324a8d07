"""Sends a message: resolves the quoted message, finds the bot, checks its channel, accepts the message, answers.

`parse`, `look_up` and `entry_of` are steps of both entry points: `HotPath` on the event loop, `deliver` for the Flask
routes. If the caller waits for the outcome, `services.api.messages.outcomes` polls for both.
"""

import asyncio
import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

import orjson
import structlog
from uuid_utils import uuid7

from services.api.auth import Callers, Principal
from services.api.context import Context
from services.api.field_names import parameters
from services.api.messages import lookup, request_fields
from services.api.messages.outcomes import Outcomes, Reply
from services.connector import Unsupported
from services.connectors.limits import CHECKS, FILE_CHECKS
from services.database import error_reasons
from services.database.connection import DatabaseUnavailable
from services.http_server.admission import Admission
from services.http_server.asgi import Receive, Scope
from services.http_server.body import MAX_BODY, SPOOL_BYTES, read_small
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError, database_unavailable, unknown_bot
from services.http_server.refusal import Refusal
from services.message import Bot, Payload, Status, StoredFile
from services.outbox.accept import Accepted, Entry, IdempotencyConflict
from services.runtime.logging_setup import current_request

#: The beginning of the addresses of sends.
PREFIX = "/api/v2/messages/"
#: The beginnings of the addresses of the hot path.
HOT = tuple(f"{PREFIX}{kind}/" for kind in request_fields.PLAIN)
#: Threads that look up bots and quoted messages for the event loop.
LOOKUP_THREADS = 8
#: Lookup threads that one company may use at a time.
COMPANY_LOOKUP_THREADS = 4
#: Requests with a large body that one caller may upload at a time; further ones wait.
MAX_UPLOADS = 16

#: The headers that the hot path reads.
_HEADERS = {b"idempotency-key", b"content-length"}

log = structlog.get_logger()
_logger = logging.getLogger(__name__)  # asked first: the hot path spends nothing on lines that are not written


@dataclass(frozen=True, slots=True)
class Send:
    """A request to send a message, checked as far as possible without the database."""

    company_id: str
    chat_id: str
    phone_index: int
    kind: str
    payload: Payload
    idempotency_key: str | None
    wait: float  # seconds to wait for the outcome; 0: answer as soon as the message is durable
    message_id: str = field(default_factory=lambda: str(uuid7()))


def parse(kind: str, company_id: str, chat_id: str, body: bytes, idempotency_key: str | None, wait: str | None) -> Send:
    """Check a request to send a kind of `request_fields.PLAIN`. Raises `ApiError`, which names the wrong field."""
    request_fields.check_company(company_id)
    key, seconds = request_fields.idempotency_key(idempotency_key), request_fields.wait(wait)
    chat = request_fields.chat(chat_id, company_id)
    fields = request_fields.body_fields(kind, body)
    payload = request_fields.PLAIN[kind](fields)
    return Send(
        company_id, chat, request_fields.phone_index(fields), kind, payload, key, seconds,
    )  # fmt: skip


def look_up(context: Context, send: Send) -> Bot:
    """Resolve the quoted message, if there is one, find the bot, and check the quotas.

    Raises `ApiError`, `DatabaseUnavailable`.
    """
    if "quotedMessageId" in send.payload:
        with context.database.connection() as connection:
            quoted = lookup.find(connection, send.company_id, send.payload["quotedMessageId"], send.phone_index)
        send.payload["quoted_provider_id"] = quoted.sent_id()
    bot = find_bot(context, send)
    context.quotas.check_message(send.company_id, send.idempotency_key)
    return bot


def find_bot(context: Context, send: Send) -> Bot:
    """The bot that sends the message. Raises `ApiError` if there is none, `DatabaseUnavailable`."""
    bot = context.accounts.bot(send.company_id, send.phone_index)
    if bot is None:
        raise unknown_bot(send.company_id, send.phone_index)
    return bot


def entry_of(context: Context, principal: Principal, send: Send, bot: Bot) -> Entry:
    """The message to be accepted, once it is counted; asks no database.

    Raises `ApiError` if the channel cannot send it.
    """
    principal.require_company(send.company_id)
    check(send, bot)
    context.quotas.count_message(send.company_id, send.idempotency_key is not None)
    return Entry(
        send.message_id, bot.process_name, bot.id, send.company_id, send.phone_index, send.chat_id, send.kind,
        send.payload, send.idempotency_key, digest(send) if send.idempotency_key else None,
        current_request.get() or None,
    )  # fmt: skip


class HotPath:
    """Sends texts and templates on the event loop, without a thread of their own."""

    def __init__(
        self, context: Context, callers: Callers, outcomes: Outcomes, admission: Admission, uploads: Admission
    ) -> None:
        """`admission`: the turns of requests; `uploads`: of those with a large body."""
        self._context, self._callers, self._outcomes = context, callers, outcomes
        self._admission, self._uploads = admission, uploads
        self._lookups = ThreadPoolExecutor(LOOKUP_THREADS, "lookups")

    def close(self) -> None:
        """Look up nothing more."""
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def send(self, scope: Scope, receive: Receive) -> Reply:
        """Have the message of a request accepted, and answer once it is durable; refusals are replies too."""
        try:
            return await self._accept(scope, receive)
        except Refusal as error:
            refused = error
        except (DatabaseUnavailable, IdempotencyConflict) as error:
            refused = refusal(error)
        except Exception as error:
            log.exception("request.failed", path=scope["path"])
            refused = refusal(error)
        return Reply(refused.status, refused.body(), tuple(refused.headers.items()))

    async def _accept(self, scope: Scope, receive: Receive) -> Reply:
        kind, company_id, chat_id = scope["path"][len(PREFIX) :].split("/")
        principal, caller = await self._callers.identify(scope, company_id)
        self._context.quotas.take_request(principal.company_id)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
        wait = _wait(kind, scope["query_string"]) if scope["query_string"] else None
        body, idempotency_key = await self._body(principal, headers, receive), headers.get(b"idempotency-key")
        request = parse(kind, company_id, chat_id, body, idempotency_key, wait)
        if not request.wait:
            return await self._submit(principal, request)
        with self._outcomes.place(caller):
            return await self._outcomes.follow(await self._submit(principal, request))

    async def _body(self, principal: Principal, headers: dict[bytes, str], receive: Receive) -> bytes:
        length = headers.get(b"content-length")
        if length is not None and int(length) <= SPOOL_BYTES:
            return await read_small(receive, length, MAX_BODY)
        async with self._uploads.turn(principal.company_id, MAX_UPLOADS):
            return await read_small(receive, length, MAX_BODY)

    async def _submit(self, principal: Principal, request: Send) -> Reply:
        context = self._context
        bot = context.accounts.cached_bot(request.company_id, request.phone_index)
        has_room = context.quotas.has_room(request.company_id, request.idempotency_key is not None)
        if bot is None or not has_room or "quotedMessageId" in request.payload:  # the database is asked, on a thread
            async with self._admission.turn(("lookups", request.company_id), COMPANY_LOOKUP_THREADS):
                bot = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up, context, request)
        entry = entry_of(context, principal, request, bot)
        return accepted(await context.acceptor.accept_from_loop(entry), request)


def is_hot(path: str) -> bool:
    """Whether requests with this path are for the `HotPath`."""
    return path.startswith(HOT) and path.count("/", len(PREFIX)) == 2 and not path.endswith("/")


def _wait(kind: str, query: bytes) -> str | None:
    return parameters(query, request_fields.QUERY, request_fields.NAMES[kind]).get("wait")


def deliver(context: Context, principal: Principal, send: Send, bot: Bot | None = None) -> Reply:
    """Like the hot path, on a thread. Its file is removed if no message needs it. Raises `ApiError` alone.

    `bot`: that of `look_up`, if it was looked up already.
    """
    try:
        entry = entry_of(context, principal, send, bot or look_up(context, send))
        found = context.acceptor.accept(entry).result()
    except DatabaseUnavailable as error:
        raise refusal(error) from error  # the message may be stored after all, so its file stays
    except IdempotencyConflict as error:
        _release_file(context, send)
        raise refusal(error) from error
    except ApiError:
        _release_file(context, send)
        raise
    if found.repeated:
        _release_file(context, send)
    return accepted(found, send)


def _release_file(context: Context, send: Send) -> None:
    key = send.payload.get("media", {}).get("key")
    if key:
        context.media.release(key, send.message_id)


def check(send: Send, bot: Bot) -> None:
    """Raise `ApiError` if the bot's channel can never send the message."""
    try:
        CHECKS[bot.process_name](send.kind, send.chat_id, send.payload)
    except Unsupported as error:
        raise ApiError(ErrorCode.UNSUPPORTED_BY_CHANNEL, str(error)) from None


def check_file(kind: str, mime_type: str, bot: Bot) -> None:
    """Raise `ApiError` if the bot's channel accepts no file of this type."""
    if file_check := FILE_CHECKS.get(bot.process_name):
        try:
            file_check(kind, mime_type)
        except Unsupported as error:
            raise ApiError(ErrorCode.UNSUPPORTED_MEDIA, str(error)) from None


def digest(send: Send) -> str:
    """Identifies the content of a request. A file of ours is identified by its content, not by its place."""
    payload = send.payload
    if media := payload.get("media"):
        identifying = {name: value for name, value in media.items() if name != "key"}
        payload = payload | {"media": cast(StoredFile, identifying)}
    content = [send.chat_id, send.phone_index, send.kind, payload]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def accepted(answer: Accepted, send: Send) -> Reply:
    """The 202 for a durable message."""
    if _logger.isEnabledFor(logging.DEBUG):
        log.debug(
            "message.accepted",
            message_id=answer.message_id, company=send.company_id, phone=send.phone_index, kind=send.kind,
            repeated=answer.repeated,
        )  # fmt: skip
    headers = (("Idempotency-Replayed", "true"),) if answer.repeated else ()
    body = {"success": True, "messageId": answer.message_id, "status": Status.QUEUED, "chatId": send.chat_id}
    return Reply(202, body, headers, send.wait)


def refusal(error: Exception) -> ApiError:
    """The error for a message that could not be stored."""
    if isinstance(error, IdempotencyConflict):
        message = f"the Idempotency-Key {error} was used for a different message"
        return ApiError(ErrorCode.IDEMPOTENCY_CONFLICT, message)
    if reason := error_reasons.why(error):
        message = f"PostgreSQL cannot store: {reason}. The message was not stored; send it again later"
        return database_unavailable(message)
    if isinstance(error, DatabaseUnavailable):
        return database_unavailable("the database is unavailable, the message was not stored; send it again shortly")
    return ApiError(ErrorCode.INTERNAL, "the message could not be stored; the log of the API has the reason")
