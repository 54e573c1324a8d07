"""Admission of requests to threads: each caller has a share of the threads and a queue of its own."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.http_server import refusal

#: Requests of one caller that may wait for a thread; a further one is refused.
MAX_QUEUE = 256
#: Seconds that a request waits for a thread.
QUEUE_TIMEOUT_SECONDS = 30.0


@dataclass(eq=False, slots=True)
class _Caller:
    running: int = 0
    done: int = 0
    queue: "deque[asyncio.Future[None]]" = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Share:
    """A caller's share of the threads."""

    caller: Hashable
    threads: int
    per_address: int | None = None  # of these, those of one client's address, for callers that are many in truth


class Admission:
    """Admits requests on the event loop; one that waits costs no thread."""

    def __init__(self, max_queue: int = MAX_QUEUE, timeout_seconds: float = QUEUE_TIMEOUT_SECONDS) -> None:
        self._max_queue, self._timeout_seconds = max_queue, timeout_seconds
        self._callers: dict[Hashable, _Caller] = {}

    @asynccontextmanager
    async def turn(
        self, caller: Hashable, share: int, disconnect: Callable[[], Awaitable[object]] | None = None
    ) -> AsyncIterator[None]:
        """Be one of the caller's `share` requests.

        `disconnect`: waits until the client disconnects; its request then leaves the queue. Raises `Refusal`: 429 if
        the queue is full or too slow, or the client disconnected.
        """
        found = self._callers.setdefault(caller, _Caller())
        if found.running >= share:
            await self._wait(found, disconnect)  # a request that ends hands its place over: `running` stays
        else:
            found.running += 1
        try:
            yield
        finally:
            found.done += 1
            self._leave(caller, found)

    @asynccontextmanager
    async def admit(
        self, share: Share, address: str, disconnect: Callable[[], Awaitable[object]] | None = None
    ) -> AsyncIterator[None]:
        """Be one of a caller's requests; with a share for each address, one that has used up its own waits for itself.

        See `turn`. `address`: the network of the client.
        """
        if share.per_address is None:
            async with self.turn(share.caller, share.threads, disconnect):
                yield
            return
        async with (
            self.turn((share.caller, address), share.per_address, disconnect),
            self.turn(share.caller, share.threads, disconnect),
        ):
            yield

    async def _wait(self, caller: _Caller, disconnect: Callable[[], Awaitable[object]] | None) -> None:
        if len(caller.queue) >= self._max_queue:
            raise refusal.too_many_requests("too many requests at a time; wait for answers before you send more")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        caller.queue.append(place)
        left: asyncio.Future[object] = asyncio.ensure_future(disconnect()) if disconnect else asyncio.Future()
        try:
            await asyncio.wait((place, left), timeout=self._timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            if place.done():  # handed over at the same moment
                self._hand_over(caller)
            else:
                caller.queue.remove(place)
            raise
        finally:
            left.cancel()
        if not place.done():
            caller.queue.remove(place)
            if left.done():
                raise refusal.disconnected()
            raise refusal.too_many_requests("no thread became free in time; try again shortly")

    def _leave(self, name: Hashable, caller: _Caller) -> None:
        self._hand_over(caller)
        if not caller.running and not caller.queue:
            self._callers.pop(name, None)

    @staticmethod
    def _hand_over(caller: _Caller) -> None:
        if caller.queue:
            caller.queue.popleft().set_result(None)
        else:
            caller.running -= 1

    def progress(self) -> dict[Hashable, int]:
        """For each caller with requests in its queue, how many of its requests have been done. For any thread."""
        return {name: caller.done for name, caller in list(self._callers.items()) if caller.queue}
