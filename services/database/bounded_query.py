"""Queries with a time limit of their own, since a frozen PostgreSQL hangs."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from services.database.connection import DatabaseUnavailable

T = TypeVar("T")


class BoundedQuery(Generic[T]):
    """Runs a query on a thread of its own. Callers in the meantime share its answer, so only one query ever hangs."""

    def __init__(self, query: Callable[[], T]) -> None:
        self._query = query
        self._lock = threading.Lock()
        self._pending: Future[T] | None = None

    def within(self, seconds: float) -> T:
        """The query's result. Raises what the query raises, and `DatabaseUnavailable` if there is no answer in time."""
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
