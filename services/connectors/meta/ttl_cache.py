"""A cache whose entries expire and whose size is limited."""

import threading
import time
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """The newest `size` entries, each until it expires. Safe for threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[K, tuple[V, float]] = {}  # the oldest first
        self._lock = threading.Lock()

    def put(self, key: K, value: V, seconds: float) -> None:
        """Store an entry that expires after `seconds`."""
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = value, time.monotonic() + seconds
            if len(self._entries) > self._size:
                del self._entries[next(iter(self._entries))]

    def get(self, key: K) -> V | None:
        """The value under the key, or None."""
        with self._lock:
            value, until = self._entries.get(key, (None, 0.0))
            return value if time.monotonic() < until else None

    def pop(self, key: K) -> V | None:
        """Like `get`, and remove the entry."""
        value = self.get(key)
        with self._lock:
            self._entries.pop(key, None)
        return value

    def forget(self, key: K, value: V) -> None:
        """Remove the entry if its value is still this one."""
        with self._lock:
            if self._entries.get(key, (None, 0.0))[0] == value:
                del self._entries[key]
