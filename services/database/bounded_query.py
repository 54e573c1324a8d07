"""Questions to PostgreSQL that are answered or given up within a time, since a frozen server hangs."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from services.database.connection import DatabaseUnavailable

T = TypeVar("T")


class BoundedQuery(Generic[T]):
    """Runs a query on a thread of its own; who asks meanwhile shares its answer, so only one ever hangs."""

    def __init__(self, query: Callable[[], T]) -> None:
        self._query = query
        self._lock = threading.Lock()
        self._pending: Future[T] | None = None

    def within(self, seconds: float) -> T:
        """The query's result. Raises what the query raises, and `DatabaseUnavailable` when time is up."""
        with self._lock:
            if self._pending is None or self._pending.done():
                self._pending = Future()
                threading.Thread(target=self._run, args=(self._pending,), name="bounded", daemon=True).start()
            pending = self._pending
        try:
            return pending.result(seconds)
        except TimeoutError:
            raise DatabaseUnavailable(f"PostgreSQL did not answer within {seconds:g} s") from None

    def _run(self, pending: Future[T]) -> None:
        try:
            pending.set_result(self._query())
        except BaseException as error:
            pending.set_exception(error)
