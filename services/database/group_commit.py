"""Group commit with a deadline: items that wait together are written at once, and each is answered within its time.

One thread writes; while it does, the next batch gathers. Another thread answers the items whose time is up,
even while the writer waits, so that neither callers nor memory depend on a database that hangs. It sleeps while there
are no items.
"""

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog

from services.database.connection import DatabaseError, DatabaseUnavailable

if TYPE_CHECKING:
    import asyncio

#: Seconds between two attempts to tidy up.
TIDY_INTERVAL_SECONDS = 1.0
#: Seconds before writing continues after a fault of this process.
FAULT_PAUSE_SECONDS = 0.5
#: Seconds beyond an item's own time that closing waits for a write in progress.
CLOSE_MARGIN_SECONDS = 2.0

log = structlog.get_logger()

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class CallersLeft(Exception):
    """Some callers of the batch have their answer already, that their items were not stored: do not commit it."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Answer]):
    item: Item
    deadline: float  # monotonic
    settled: bool = False  # answered, or about to be; guarded by the lock
    future: "Future[Answer] | asyncio.Future[Answer]" = field(default_factory=Future)
    loop: "asyncio.AbstractEventLoop | None" = None  # of an asyncio.Future


class Batch(Generic[Item]):
    """Items that are written together."""

    def __init__(self, entries: "Sequence[_Entry[Item, Any]]", lock: threading.Lock) -> None:
        self.items = [entry.item for entry in entries]
        self._entries, self._lock = entries, lock

    @property
    def deadline(self) -> float:
        """The time, in monotonic seconds, at which the first caller gets the answer that its item was not stored."""
        return min(entry.deadline for entry in self._entries)

    def check(self) -> None:
        """Raise `CallersLeft` unless every caller still waits. Call it right before the commit."""
        with self._lock:
            if any(entry.settled for entry in self._entries):
                raise CallersLeft


class GroupCommit(Generic[Item, Answer]):
    """Writes items in batches. Safe for threads."""

    def __init__(
        self,
        name: str,
        write: Callable[[Batch[Item]], Sequence[Answer | Exception]],
        seconds: float,
        *,
        max_items: int,
        max_bytes: int | None = None,
        size: Callable[[Item], int] = lambda _: 0,
        undo: Callable[[list[Item]], None] = lambda _: None,
        tidy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`write` commits a batch and returns an answer, or the reason why there is none, for each item.

        If it raises, nothing was stored; after anything but `CallersLeft` and `DatabaseUnavailable` each item is tried
        alone. `seconds`: for an item until its answer. A batch has up to `max_items`, and up to
        `max_bytes` unless one item is larger. `undo` is called with items that were stored although their callers
        got the answer that they were not; `tidy` after the last batch, and each second as long as it returns True. The
        thread that writes calls all of them.
        """
        self._name, self._seconds = name, seconds
        self._write, self._undo, self._tidy = write, undo, tidy
        self._max_items, self._max_bytes, self._size = max_items, max_bytes, size
        self._waiting: deque[_Entry[Item, Answer]] = deque()
        self._running: Sequence[_Entry[Item, Answer]] = ()
        self._lock = threading.Lock()
        self._kick, self._closed = threading.Event(), threading.Event()
        self._has_items = threading.Event()  # set while some may be waiting or being written, or after `close`
        self._stopping = False
        self._thread: threading.Thread | None = None

    def submit(self, item: Item) -> "Future[Answer]":
        """Write an item. The future ends within the item's time: with its answer, with the exception that stands for
        it, or with `DatabaseUnavailable`, which is raised at once after `close`."""
        future: Future[Answer] = Future()
        future.set_running_or_notify_cancel()  # a caller that hangs up does not take the item back
        self._add(_Entry(item, time.monotonic() + self._seconds, future=future))
        return future

    def submit_from_loop(self, item: Item) -> "asyncio.Future[Answer]":
        """Like `submit`, on an event loop, which is called once for all items of a batch."""
        import asyncio  # which most processes do without

        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._add(_Entry(item, time.monotonic() + self._seconds, future=future, loop=loop))
        return future

    def _add(self, entry: "_Entry[Item, Answer]") -> None:
        with self._lock:
            if self._closed.is_set():
                raise DatabaseUnavailable("the process is stopping")
            self._waiting.append(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
                threading.Thread(target=self._expire_on, name=f"{self._name}-expiry", daemon=True).start()
        if not self._has_items.is_set():
            self._has_items.set()
        self._kick.set()

    def close(self) -> None:
        """Write the waiting items, then end; it takes no longer than an item's time, even if the database hangs."""
        self._stopping = True
        self._kick.set()
        if self._thread is not None:
            self._thread.join(self._seconds + CLOSE_MARGIN_SECONDS)
        with self._lock:
            self._closed.set()
        self._has_items.set()
        self._expire(math.inf)

    def _work(self) -> None:
        untidy = False
        while not self._stopping or self._waiting:
            self._kick.wait(TIDY_INTERVAL_SECONDS if untidy else None)
            self._kick.clear()
            try:
                self._write_all()
                untidy = self._tidy()
            except Exception:  # such as a log that cannot be written; callers get their answers when their time is up
                untidy = True
                self._kick.set()
                time.sleep(FAULT_PAUSE_SECONDS)

    def _write_all(self) -> None:
        while batch := self._next():
            self._commit(batch)
            self._running = ()

    def _next(self) -> "list[_Entry[Item, Answer]]":
        batch: list[_Entry[Item, Answer]] = []
        with self._lock:
            size = 0
            while self._waiting and len(batch) < self._max_items:
                size += self._size(self._waiting[0].item)
                if batch and self._max_bytes is not None and size > self._max_bytes:
                    break
                batch.append(self._waiting.popleft())
            self._running = batch
        return batch

    def _commit(self, entries: "list[_Entry[Item, Answer]]") -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = self._write(Batch(entries, self._lock))
        except CallersLeft:
            with self._lock:
                self._waiting.extendleft(entry for entry in reversed(entries) if not entry.settled)
            return
        except DatabaseUnavailable as error:
            answers = [error] * len(entries)
        except Exception as error:
            if len(entries) > 1:  # one bad item must not take the others with it
                for entry in entries:
                    self._commit([entry])
                return
            if not isinstance(error, DatabaseError):
                log.exception("group_commit.failed", items_of=self._name)
            answers = [error]
        self._answer(entries, answers)

    def _answer(self, entries: "list[_Entry[Item, Answer]]", answers: Sequence[Answer | Exception]) -> None:
        late: list[Item] = []
        due: list[tuple[_Entry[Item, Answer], Answer | Exception]] = []
        with self._lock:
            for entry, answer in zip(entries, answers, strict=True):
                if not entry.settled:
                    entry.settled = True
                    due.append((entry, answer))
                elif not isinstance(answer, Exception):
                    late.append(entry.item)
        _settle(due)
        if late:
            self._undo(late)

    def _expire_on(self) -> None:
        """Answer the items whose time is up. Later items have later deadlines, so none of them is missed meanwhile."""
        while not self._closed.is_set():
            self._has_items.wait()
            self._has_items.clear()
            while (deadline := self._first_deadline()) is not None and not self._closed.is_set():
                self._closed.wait(deadline - time.monotonic())
                self._expire(time.monotonic())

    def _first_deadline(self) -> float | None:
        """The earliest deadline of the items that have no answer; None if there are none."""
        with self._lock:
            first = [entry.deadline for entry in (*self._running, *self._waiting) if not entry.settled]
        return min(first, default=None)

    def _expire(self, now: float) -> None:
        with self._lock:
            overdue = [entry for entry in self._running if entry.deadline <= now and not entry.settled]
            while self._waiting and (self._waiting[0].deadline <= now or self._waiting[0].settled):
                overdue.append(self._waiting.popleft())
            for entry in overdue:
                entry.settled = True
        reason = f"PostgreSQL did not commit within {self._seconds:g} s"
        _settle([(entry, DatabaseUnavailable(reason)) for entry in overdue])
        if overdue:
            with contextlib.suppress(Exception):  # a full disk must not end this thread
                log.warning("group_commit.timed_out", items_of=self._name, items=len(overdue))


def _settle(answered: "Sequence[tuple[_Entry[Item, Answer], Answer | Exception]]") -> None:
    """End the futures of entries; those of an event loop on it, with one call for all."""
    of_loops: dict[asyncio.AbstractEventLoop, list[tuple[Any, Any]]] = {}
    for entry, answer in answered:
        if entry.loop is None:
            _end(entry.future, answer)
        else:
            of_loops.setdefault(entry.loop, []).append((entry.future, answer))
    for loop, futures in of_loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it all callers
            loop.call_soon_threadsafe(_end_all, futures)


def _end_all(futures: list[tuple[Any, Any]]) -> None:
    for future, answer in futures:
        if not future.done():  # its caller was cancelled
            _end(future, answer)


def _end(future: Any, answer: Any) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
