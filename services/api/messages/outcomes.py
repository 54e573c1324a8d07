"""Replies to sends, and the wait for the outcomes of their messages (`?wait=`) on the event loop.

One query polls for all messages together.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from flask import request

from services.api.auth import Caller
from services.api.messages import queries
from services.database.connection import Database, DatabaseError, DatabaseUnavailable
from services.http_server import refusal
from services.http_server.error_codes import ErrorCode
from services.http_server.shutdown import on_termination
from services.message import Status
from services.outbox.message_status import MessageStatus, statuses_of

#: The key of the WSGI environment under which a Flask route leaves a reply whose caller waits for the outcome.
PENDING = "bisnes.pending"
#: Shortest pause between two polls; used after a caller began to wait.
MIN_PAUSE_SECONDS = 0.01
#: Longest pause between two polls, without the addition below.
MAX_PAUSE_SECONDS = 0.25
#: Factor by which each pause is longer than the one before.
PAUSE_GROWTH = 1.5
#: Seconds that each message adds to the pause.
PAUSE_SECONDS_PER_MESSAGE = 0.0005
#: Seconds before an unavailable database is asked again.
RETRY_SECONDS = 1.0

log = structlog.get_logger()

#: Body, HTTP status and headers.
Answer = tuple[dict[str, Any], int, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: HTTP status, JSON body and further headers."""

    status: int
    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()
    #: Seconds for which the caller waits for the outcome of the message.
    wait: float = 0.0

    def as_answer(self) -> Answer:
        """The reply for Flask. If the caller waits, the event loop finds the reply in the WSGI environment."""
        if self.wait:
            request.environ[PENDING] = self
        return self.body, self.status, dict(self.headers)

    def with_outcome(self, found: MessageStatus) -> "Reply":
        """The reply with the outcome of its message."""
        body: dict[str, Any] = self.body | {"status": found.status}
        if found.provider_id:
            body["providerId"] = found.provider_id
        if found.hold:
            body["hold"] = found.hold
        if found.status == Status.FAILED:
            failed = {"success": False, "error": found.error, "code": ErrorCode.SEND_FAILED, "providerCode": found.code}
            return Reply(ErrorCode.SEND_FAILED.status, body | failed)
        is_done = found.status.settled and found.status not in (Status.UNKNOWN, Status.WAITING)
        return Reply(200 if is_done else 202, body)


class Outcomes:
    """The messages of one process whose outcomes callers wait for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[str, set[asyncio.Future[MessageStatus | None]]] = defaultdict(set)
        self._waits: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, "outcomes")
        self._polling: asyncio.Task[None] | None = None
        self._pause = MIN_PAUSE_SECONDS
        self._ended = False
        on_termination(self.end)

    def close(self) -> None:
        """Stop polling."""
        self.end()
        if self._polling is not None:
            self._polling.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def end(self) -> None:
        """Stop waiting: callers must learn that their messages were accepted before the process ends."""
        self._ended = True
        for message_id in self._waiting:
            self._settle(message_id, None)

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Count as one of the caller's open waits. Raises `Refusal` (429) if it has too many."""
        if self._waits[caller.name] >= caller.waits:
            raise refusal.too_many_requests(
                f"{caller.waits} requests with ?wait= are open here already; send without it"
            )
        self._waits[caller.name] += 1
        try:
            yield
        finally:
            self._waits[caller.name] -= 1
            if not self._waits[caller.name]:
                del self._waits[caller.name]

    async def follow(self, reply: Reply) -> Reply:
        """The reply with the outcome of an accepted message, or with its status once the time to wait is over."""
        if self._ended:
            return reply
        message_id = str(reply.body["messageId"])
        settled: asyncio.Future[MessageStatus | None] = asyncio.get_running_loop().create_future()
        self._waiting[message_id].add(settled)
        self._pause = MIN_PAUSE_SECONDS
        if self._polling is None or self._polling.done():
            self._polling = asyncio.ensure_future(self._poll())
        outcome: MessageStatus | None
        try:
            outcome = await asyncio.wait_for(asyncio.shield(settled), reply.wait)
        except TimeoutError:
            outcome = await self._now(message_id)
        finally:
            self._waiting[message_id].discard(settled)
            if not self._waiting[message_id]:
                del self._waiting[message_id]
        return reply.with_outcome(outcome) if outcome else reply

    async def _now(self, message_id: str) -> MessageStatus | None:
        try:
            return (await asyncio.wait_for(self._ask([message_id], is_last=True), RETRY_SECONDS)).get(message_id)
        except (TimeoutError, DatabaseUnavailable, DatabaseError):
            return None

    async def _poll(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._pause + PAUSE_SECONDS_PER_MESSAGE * len(self._waiting))
            self._pause = min(self._pause * PAUSE_GROWTH, MAX_PAUSE_SECONDS)
            try:
                found = await self._ask(list(self._waiting))
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("outcomes.query_failed", reason=str(error).strip())
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for message_id, outcome in found.items():
                if outcome.status.settled:
                    self._settle(message_id, outcome)

    def _settle(self, message_id: str, outcome: MessageStatus | None) -> None:
        for settled in self._waiting.get(message_id, ()):
            if not settled.done():
                settled.set_result(outcome)

    async def _ask(self, message_ids: list[str], is_last: bool = False) -> dict[str, MessageStatus]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._query, message_ids, is_last)

    def _query(self, message_ids: list[str], is_last: bool) -> dict[str, MessageStatus]:
        """The outcomes. `is_last`: the callers stop waiting, so unsettled messages get their holds as well."""
        with self._database.connection() as connection:
            found = statuses_of(connection, message_ids)
            waiting = [
                message_id
                for message_id, outcome in found.items()
                if outcome.status in (Status.QUEUED, Status.WAITING) and (is_last or outcome.status.settled)
            ]
            held = queries.holds_of(connection, waiting) if waiting else {}
        return {message_id: outcome._replace(hold=held.get(message_id)) for message_id, outcome in found.items()}
