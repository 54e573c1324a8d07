"""A bounded pool of connections: each is lent to one thread at a time, and checked before it is lent again."""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import psycopg2


class PoolTimeout(Exception):
    """All connections were in use for too long."""


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How much of a pool is in use, and how often it was too small since the start."""

    size: int
    used: int
    #: Uses that found all connections in use.
    waits: int
    #: Uses that got none in time.
    timeouts: int


class Poolable(Protocol):
    """The part of a connection that the pool uses."""

    #: When it was opened, by the monotonic clock.
    opened: float

    def close(self) -> None: ...


C = TypeVar("C", bound=Poolable)


class Pool(Generic[C]):
    """Up to `size` connections. The one that was used last is lent first, so that its prepared statements serve."""

    def __init__(self, open: Callable[[], C], answers: Callable[[C], bool], size: int, seconds: float) -> None:
        """`answers`: whether a connection still works. `seconds`: to wait for a connection that others use."""
        self._open, self._answers, self._size, self._seconds = open, answers, size, seconds
        self._free = threading.Semaphore(size)
        self._idle: list[C] = []
        self._distrusted = -math.inf
        self._used = self._waits = self._timeouts = 0
        self._lock = threading.Lock()

    def borrow(self) -> C:
        """A connection that works, to be given back. Raises `PoolTimeout`, and what opening one raises."""
        if not self._free.acquire(blocking=False):
            self._count(waits=1)
            if not self._free.acquire(timeout=self._seconds):
                self._count(timeouts=1)
                raise PoolTimeout
        self._count(used=1)
        try:
            while (connection := self._take_idle()) is not None:
                if connection.opened >= self._distrusted and self._answers(connection):
                    return connection
                _close(connection)
            return self._open()
        except BaseException:
            self._release()
            raise

    def give_back(self, connection: C, broken: bool = False) -> None:
        """Ends the use of a connection; a broken one is closed."""
        if broken:
            _close(connection)
        else:
            with self._lock:
                self._idle.append(connection)
        self._release()

    def distrust(self) -> None:
        """Has all connections that are open now replaced before their next use."""
        self._distrusted = time.monotonic()

    def use(self) -> PoolUse:
        """The use at this moment."""
        return PoolUse(self._size, self._used, self._waits, self._timeouts)

    def close(self) -> None:
        """Closes the idle connections."""
        while (connection := self._take_idle()) is not None:
            _close(connection)

    def _take_idle(self) -> C | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _release(self) -> None:
        self._count(used=-1)
        self._free.release()

    def _count(self, used: int = 0, waits: int = 0, timeouts: int = 0) -> None:
        with self._lock:
            self._used += used
            self._waits += waits
            self._timeouts += timeouts


def _close(connection: Poolable) -> None:
    with contextlib.suppress(psycopg2.Error):
        connection.close()
