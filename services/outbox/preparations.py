"""Preparations of messages, such as uploading a file: on threads, a few at a time."""

import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from services.connectors.base import Preparation, Refusal
from services.message import Retry

#: Preparations at once.
THREADS = 8
#: Preparations of one bot at once: a number whose files come slowly leaves room for the others.
THREADS_OF_ONE_BOT = 4

log = structlog.get_logger()


class Preparations:
    """Runs preparations. One thread calls `start` and `done`."""

    def __init__(self, finished: Callable[[], None]) -> None:
        """`finished` is called from any thread when a preparation has ended."""
        self._finished = finished
        self._pool = ThreadPoolExecutor(THREADS, "preparation")
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Any, Preparation]] = deque()
        self._running: Counter[int] = Counter()
        self._done: list[tuple[Any, Refusal | None]] = []
        self.pending = 0  # started and not yet handed back

    def start(self, bot_id: int, ticket: Any, preparation: Preparation) -> None:
        """Run a preparation as soon as a thread is free for it."""
        self.pending += 1
        with self._lock:
            self._waiting.append((bot_id, ticket, preparation))
            self._begin()

    def done(self) -> list[tuple[Any, Refusal | None]]:
        """The preparations that ended since the last call: their tickets, and the refusal if there is one."""
        with self._lock:
            done, self._done = self._done, []
        self.pending -= len(done)
        return done

    def _begin(self) -> None:
        """Run the preparations that may run, the oldest first; the lock is held."""
        for entry in list(self._waiting):
            if self._running.total() >= THREADS:
                return
            if self._running[entry[0]] < THREADS_OF_ONE_BOT:
                self._waiting.remove(entry)
                self._running[entry[0]] += 1
                self._pool.submit(self._run, *entry)

    def _run(self, bot_id: int, ticket: Any, preparation: Preparation) -> None:
        try:
            refusal = preparation.run()
        except Exception as error:
            log.exception("preparation.failed", bot=bot_id)
            refusal = Retry("preparation", f"{type(error).__name__}: see the worker's log")
        with self._lock:
            self._done.append((ticket, refusal))
            self._running[bot_id] -= 1
            self._begin()
        self._finished()
