"""The queue over HTTP: count, list, explain, retry and cancel messages, pause and resume bots.

An operator's key sees and changes everything, a company's key what belongs to the company.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import structlog
from flask import g

from bisnesctl.errors import UsageError
from bisnesctl.queue import message_changes, messages, pauses, stats, targets
from bisnesctl.queue.message_changes import NotRetryable, NotWaiting
from bisnesctl.queue.messages import MessageDetails, QueuedMessage, QueueFilter
from bisnesctl.queue.pauses import PausedByOperator
from bisnesctl.queue.stats import Counts
from bisnesctl.queue.targets import BotName
from services.api.auth import Auth, company_filter, company_of, context, resource
from services.api.messages import request_fields
from services.api.openapi import problems
from services.api.schemas.queue import (
    BotsQuery,
    Changed,
    PauseRequest,
    Pauses,
    QueuedDetails,
    QueuedPath,
    QueuePage,
    QueueQuery,
    Resumed,
    ResumeRequest,
    Stats,
)
from services.database.connection import Connection
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError, unknown_bot

log = structlog.get_logger()

queue = resource("queue", "The messages that wait to be sent: count, list, retry, cancel and pause them.", Auth.KEY)

Answer = dict[str, Any]


@queue.get(
    "/api/v2/queue/stats",
    summary="Count the messages of each queue",
    description="Of all companies with an operator's key, otherwise of the key's company.",
    responses={200: Stats, **problems("unknown_bot")},
)
def queue_stats(query: BotsQuery) -> Answer:
    """The counts of each queue and all together."""
    company = _company(query)
    with context().database.connection() as connection:
        found = stats.of_bots(connection, company, query.phone_index)
    if query.phone_index is not None and not found:
        raise unknown_bot(company or "", query.phone_index)
    queues = stats.by_queue(found)
    shown = {name: _counts(each) for name, each in queues.items()}
    return {"success": True, "queues": shown, "total": _counts(sum(queues.values(), Counts()))}


@queue.get(
    "/api/v2/queue/messages",
    summary="List the messages that wait",
    description="Oldest first, each with the reason why it waits.",
    responses={200: QueuePage, **problems("invalid_chat_id")},
)
def list_queue(query: QueueQuery) -> Answer:
    """The messages that match."""
    company = _company(query)
    chat = None if query.chat_id is None else request_fields.chat(query.chat_id, company or "")
    wanted = QueueFilter(company, query.phone_index, chat, query.state, query.older_than)
    with context().database.connection() as connection:
        found, more = messages.find(connection, wanted, query.limit, query.after)
    return {
        "success": True,
        "messages": [_shown(each) for each in found],
        "nextAfter": found[-1].number if more else None,
    }


@queue.get(
    "/api/v2/queue/messages/<path:messageId>",
    summary="All of one message",
    responses={200: QueuedDetails, **problems("unknown_message")},
)
def show_queued(path: QueuedPath) -> Answer:
    """Its life, its attempts, its last error, and what it waits for."""
    with context().database.connection() as connection:
        found = _find(connection, path)
    return {
        "success": True,
        **_shown(found),
        "ahead": found.ahead,
        "firstMessageId": found.first,
        "providerId": found.provider_id,
        "timeline": found.timeline,
        "payload": found.payload,
    }


@queue.post(
    "/api/v2/queue/messages/<messageId>/retry",
    summary="Retry a message",
    description=(
        "Sends a failed message once more, in its place in its chat, if it certainly was not sent and the cause is "
        "temporary. A message that waits for its next attempt is tried now."
    ),
    responses={200: Changed, **problems("unknown_message", "not_retryable")},
)
def retry_queued(path: QueuedPath) -> Answer:
    """Retry it, or refuse with the reason."""
    with context().database.connection() as connection:
        found = _find(connection, path)
        try:
            done = message_changes.retry(connection, found.id, g.principal.company_id)
        except NotRetryable as refusal:
            raise ApiError(ErrorCode.NOT_RETRYABLE, str(refusal)) from None
    log.info("message.retried", message_id=found.id, company=found.company)
    return {"success": True, "messageId": found.id, "result": done}


@queue.post(
    "/api/v2/queue/messages/<messageId>/cancel",
    summary="Cancel a message",
    description="It is never sent, and fails with the code `cancelled`, unless a worker has it in hand.",
    responses={200: Changed, **problems("unknown_message", "not_waiting")},
)
def cancel_queued(path: QueuedPath) -> Answer:
    """Cancel it, or refuse with the reason."""
    with context().database.connection() as connection:
        found = _find(connection, path)
        try:
            message_changes.cancel_one(connection, found, g.principal.company_id)
        except NotWaiting as refusal:
            raise ApiError(ErrorCode.NOT_WAITING, str(refusal)) from None
    log.info("message.cancelled", message_id=found.id, company=found.company)
    return {"success": True, "messageId": found.id, "result": f"message {found.id} is cancelled"}


@queue.post(
    "/api/v2/queue/pause",
    summary="Pause bots",
    description=(
        "Nothing of them leaves until they are resumed, or `forSeconds` are over. Messages are accepted and wait. A "
        "bot that is paused already gets the new reason and end, but a company does not change an operator's pause."
    ),
    responses={200: Pauses, **problems("unknown_bot", "paused_by_operator")},
)
def pause_bots(body: PauseRequest) -> Answer:
    """Pause a bot, or all bots of a company."""
    with context().database.connection() as connection:
        bots = _bots(connection, body)
        with _refused(bots):
            paused = pauses.pause(
                connection, bots, _by(), body.reason, body.for_seconds, g.principal.company_id is not None
            )
        bots = [each for each in bots if each.id in paused]
        in_hand = pauses.in_hand(connection, bots)
    log.info("bot.paused", bots=[str(each) for each in bots], seconds=body.for_seconds)
    return {"success": True, "bots": [_bot(each) for each in bots], "inHand": in_hand}


@queue.post(
    "/api/v2/queue/resume",
    summary="Resume bots",
    description=(
        "Their messages leave, in the order of each chat. A bot that is held otherwise stays held. An operator's key "
        "ends any pause, a company's key those that the company made."
    ),
    responses={200: Resumed, **problems("unknown_bot", "paused_by_operator")},
)
def resume_bots(body: ResumeRequest) -> Answer:
    """End the pause of a bot, or of all bots of a company."""
    with context().database.connection() as connection:
        bots = _bots(connection, body)
        with _refused(bots):
            resumed = pauses.resume(connection, bots, _by(), g.principal.company_id is not None)
    log.info("bot.resumed", bots=[str(each) for each in bots if each.id in resumed])
    return {"success": True, "bots": [_bot(each) for each in bots if each.id in resumed]}


def _company(query: BotsQuery) -> str | None:
    """The company whose messages are meant. Raises `ApiError` for a phone index without a company."""
    company = company_filter(g.principal, query.company)
    if company is None and query.phone_index is not None:
        raise ApiError(ErrorCode.INVALID_REQUEST, "company: phoneIndex needs the company of the bot")
    return company


def _find(connection: Connection, path: QueuedPath) -> MessageDetails:
    try:
        return messages.get(connection, path.message_id, g.principal.company_id)
    except UsageError:
        message = f"there is no message with the id {path.message_id}"
        raise ApiError(ErrorCode.UNKNOWN_MESSAGE, message) from None


def _bots(connection: Connection, body: PauseRequest | ResumeRequest) -> list[BotName]:
    company = company_of(g.principal, body.company)
    found = targets.find(connection, company, body.phone_index)
    if not found:
        raise unknown_bot(company, body.phone_index or 0)
    return found


@contextlib.contextmanager
def _refused(bots: list[BotName]) -> Iterator[None]:
    try:
        yield
    except PausedByOperator:
        named = f"bot {bots[0]}" if len(bots) == 1 else "all of these bots"
        message = f"an operator paused {named}, and only an operator can change that"
        raise ApiError(ErrorCode.PAUSED_BY_OPERATOR, message) from None


def _by() -> str:
    return f"key {g.key.prefix}…"


def _bot(bot: BotName) -> Answer:
    return {"companyId": bot.company, "phoneIndex": bot.phone}


def _counts(counts: Counts) -> Answer:
    return {
        "waiting": counts.waiting,
        "active": counts.active,
        "completed": counts.completed,
        "failed": counts.failed,
        "delayed": counts.delayed,
        "total": counts.total,
        "unknown": counts.unknown,
        "oldestSeconds": counts.oldest_seconds,
    }


def _shown(message: QueuedMessage) -> Answer:
    return {
        "messageId": message.id,
        "number": message.number,
        "companyId": message.company,
        "phoneIndex": message.phone,
        "channel": message.channel,
        "chatId": message.chat,
        "kind": message.kind,
        "state": message.state,
        "acceptedAt": message.accepted_at,
        "ageSeconds": message.age_seconds,
        "attempts": message.attempts,
        "code": message.code,
        "error": message.error,
        "nextAttemptAt": message.next_attempt_at,
        "reason": message.reason,
    }
