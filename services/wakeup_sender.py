"""Sends wake-ups through Redis (see `services.wakeups`).

The Redis client and Dramatiq take 7 MiB, so they are imported for the first wake-up: many processes never send one.
"""

import threading
from typing import Any

import structlog

from services.wakeups import ACTORS, NAMESPACE, marker

#: Seconds after which a wake-up counts as lost and another one is sent.
MARKER_SECONDS = 1.0
#: Seconds for which a session's wake-up is kept if its process does not wait for it.
SESSION_WAKEUP_SECONDS = 60

log = structlog.get_logger()


class WakeupSender:
    """Wakes workers and sessions. Never raises and never waits for Redis."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._broker: Any = None  # it is made when it is first needed
        self._pending: set[str] = set()  # queues
        self._lock = threading.Lock()
        self._requested = threading.Event()
        self._available = True
        self._thread: threading.Thread | None = None

    def notify(self, queue_name: str) -> None:
        """Wake a queue, unless a wake-up is on its way to it."""
        with self._lock:
            self._pending.add(queue_name)
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="wakeups", daemon=True)
                self._thread.start()
        self._requested.set()

    def _send_all(self) -> None:
        while True:
            self._requested.wait()
            self._requested.clear()
            with self._lock:
                queue_names, self._pending = self._pending, set()
            for queue_name in queue_names:
                self._send(queue_name)

    def _send(self, queue_name: str) -> None:
        import redis

        try:
            self._broker = self._broker or self._connect()
            if not self._broker.client.set(marker(queue_name), 1, nx=True, px=int(MARKER_SECONDS * 1000)):
                return
            if queue_name in ACTORS:
                self._broker.wake(queue_name)
            else:
                _wake_session(self._broker.client, queue_name)
            self._available = True
        except redis.RedisError as error:
            if self._available:
                log.warning(
                    "redis.unavailable", effect="sessions and workers look for work every second", reason=str(error)
                )
            self._available = False

    def _connect(self) -> Any:
        from services.waking_broker import WakingBroker

        return WakingBroker(self._url)


def _wake_session(redis_client: Any, queue_name: str) -> None:
    wakeup = f"{NAMESPACE}:{queue_name}.bell"
    with redis_client.pipeline(transaction=False) as pipeline:
        pipeline.lpush(wakeup, 1).ltrim(wakeup, 0, 0).expire(wakeup, SESSION_WAKEUP_SECONDS).execute()
