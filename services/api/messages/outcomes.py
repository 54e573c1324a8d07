"""Waiting for what becomes of messages (`?wait=`), on the event loop: one query asks for all that are waited for."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import structlog

from services.api.callers import Caller
from services.api.messages import holds, sends
from services.api.messages.sends import Reply
from services.database.connection import Database, DatabaseError, DatabaseUnavailable
from services.http_server import refusal
from services.http_server.shutdown import on_termination
from services.message import Status
from services.outbox.message_status import MessageStatus, statuses_of

#: Seconds between two queries after somebody began to wait, and at most.
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.01, 0.25
#: Seconds by which a pause is longer for each message that is waited for.
PAUSE_SECONDS_PER_MESSAGE = 0.0005
#: Seconds before a database that is unavailable is asked again.
RETRY_SECONDS = 1.0

log = structlog.get_logger()


class Outcomes:
    """The messages of one process that are waited for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[str, set[asyncio.Future[MessageStatus | None]]] = defaultdict(set)
        self._places: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, "outcomes")
        self._look: asyncio.Task[None] | None = None
        self._pause = MIN_PAUSE_SECONDS
        self._ended = False
        on_termination(self.end)

    def close(self) -> None:
        """Ask no more."""
        self.end()
        if self._look is not None:
            self._look.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def end(self) -> None:
        """Wait no more: each message was accepted, which its caller must hear before the process ends."""
        self._ended = True
        for message_id in self._waiting:
            self._tell(message_id, None)

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Be one of the caller's open waits. Raises `Refusal` (429) where it has too many."""
        if self._places[caller.name] >= caller.waits:
            raise refusal.too_many_requests(
                f"{caller.waits} requests with ?wait= are open here already; send without it"
            )
        self._places[caller.name] += 1
        try:
            yield
        finally:
            self._places[caller.name] -= 1
            if not self._places[caller.name]:
                del self._places[caller.name]

    async def follow(self, reply: Reply) -> Reply:
        """The answer that tells the outcome of an accepted message, or its status once the time to wait is up."""
        if self._ended:
            return reply
        message_id = str(reply.body["messageId"])
        settled: asyncio.Future[MessageStatus | None] = asyncio.get_running_loop().create_future()
        self._waiting[message_id].add(settled)
        self._pause = MIN_PAUSE_SECONDS
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(self._look_on())
        outcome: MessageStatus | None
        try:
            outcome = await asyncio.wait_for(asyncio.shield(settled), reply.wait)
        except TimeoutError:
            outcome = await self._now(message_id)
        finally:
            self._waiting[message_id].discard(settled)
            if not self._waiting[message_id]:
                del self._waiting[message_id]
        return sends.settled(reply, outcome) if outcome else reply

    async def _now(self, message_id: str) -> MessageStatus | None:
        try:
            return (await asyncio.wait_for(self._ask([message_id], is_last=True), RETRY_SECONDS)).get(message_id)
        except (TimeoutError, DatabaseUnavailable, DatabaseError):
            return None

    async def _look_on(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._pause + PAUSE_SECONDS_PER_MESSAGE * len(self._waiting))
            self._pause = min(self._pause * 1.5, MAX_PAUSE_SECONDS)
            try:
                found = await self._ask(list(self._waiting))
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("outcomes cannot be looked up", reason=str(error).strip())
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for message_id, outcome in found.items():
                if outcome.status.settled:
                    self._tell(message_id, outcome)

    def _tell(self, message_id: str, outcome: MessageStatus | None) -> None:
        for settled in self._waiting.get(message_id, ()):
            if not settled.done():
                settled.set_result(outcome)

    async def _ask(self, message_ids: list[str], is_last: bool = False) -> dict[str, MessageStatus]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._query, message_ids, is_last)

    def _query(self, message_ids: list[str], is_last: bool) -> dict[str, MessageStatus]:
        """`is_last`: each is told to its caller, settled or not; only then is it asked what holds the number."""
        with self._database.connection() as connection:
            found = statuses_of(connection, message_ids)
            waiting = [
                message_id
                for message_id, outcome in found.items()
                if outcome.status in (Status.QUEUED, Status.WAITING) and (is_last or outcome.status.settled)
            ]
            held = holds.of_messages(connection, waiting) if waiting else {}
        return {message_id: outcome._replace(hold=held.get(message_id)) for message_id, outcome in found.items()}
