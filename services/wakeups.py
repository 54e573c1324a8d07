"""Wake-ups between processes, through Redis: a wake-up says that there is work, and PostgreSQL says which.

A wake-up has no content, is coalesced with others, and may be lost: workers and sessions look for due work every
second. Workers are woken by Dramatiq after webhooks were stored, the one process of a WhatsApp Web session by a list of
its own. Messages for workers are announced by PostgreSQL (`services.outbox.on_call`).

The Redis client and Dramatiq are imported when they are first needed: they take 7 MiB, and many processes never need
them. Workers wait for wake-ups with `services.waking_broker`.
"""

import threading
import time
from typing import Any, Protocol

import structlog

#: The prefix of our names in Redis.
NAMESPACE = "bisnes"
#: Seconds for a connection to Redis.
CONNECT_TIMEOUT_SECONDS = 2
#: Seconds for the answer to a command.
ANSWER_TIMEOUT_SECONDS = 2
#: Seconds for the answer to a session's blocking command, which waits for up to a second.
SESSION_ANSWER_TIMEOUT_SECONDS = 4
#: Seconds after which a wake-up counts as lost and another one is sent.
MARKER_SECONDS = 1.0
#: Seconds for which a session's wake-up is kept if its process does not wait for it.
SESSION_WAKEUP_SECONDS = 60
#: Seconds for which a caller waits until its wake-up marker is cleared.
CLEAR_WAIT_SECONDS = 0.05
#: The actor of each queue.
ACTORS = {"meta-webhooks": "process-webhooks"}

log = structlog.get_logger()


class Notifier(Protocol):
    """Wakes the workers of a queue."""

    def notify(self, queue_name: str) -> None:
        """Report that there is work. Never raises and never waits."""


def client(url: str, seconds: float = ANSWER_TIMEOUT_SECONDS) -> Any:
    """A Redis client whose commands end within `seconds`.

    A command retries once if its connection turns out to be closed, and never after a timeout.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    retry: Any = Retry(NoBackoff(), 1, (redis.ConnectionError,))
    pool = redis.ConnectionPool.from_url(
        url, socket_timeout=seconds, socket_connect_timeout=CONNECT_TIMEOUT_SECONDS, retry=retry
    )
    return redis.Redis(connection_pool=pool)


def session_queue(bot_id: int) -> str:
    """The queue of a bot's WhatsApp Web session."""
    return f"wwebjs-messages.{bot_id}"


def marker(queue_name: str) -> str:
    """The key that is set while a wake-up is on its way."""
    return f"{NAMESPACE}:{queue_name}.hinted"


def _session_list(queue_name: str) -> str:
    """The list from which a session takes its wake-ups."""
    return f"{NAMESPACE}:{queue_name}.bell"


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
                _wake_workers(self._broker, queue_name)
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
        from dramatiq.brokers.redis import RedisBroker

        return RedisBroker(client=client(self._url), namespace=NAMESPACE, middleware=[])


def _wake_workers(broker: Any, queue_name: str) -> None:
    import dramatiq

    broker.enqueue(dramatiq.Message(queue_name, ACTORS[queue_name], args=(), kwargs={}, options={}))


def _wake_session(redis_client: Any, queue_name: str) -> None:
    wakeup = _session_list(queue_name)
    with redis_client.pipeline(transaction=False) as pipeline:
        pipeline.lpush(wakeup, 1).ltrim(wakeup, 0, 0).expire(wakeup, SESSION_WAKEUP_SECONDS).execute()


class MarkerClearer:
    """Clears a queue's wake-up marker, so that work accepted from now on sends another wake-up.

    A thread of its own makes the call, and the caller waits a moment for it. So the calls are in order while Redis
    answers, and a Redis that hangs delays nobody. Calls while one hangs are dropped: the marker expires by itself.
    """

    def __init__(self, redis_client: Any, queue_name: str) -> None:
        self._client, self._queue_name = redis_client, queue_name
        self._requested, self._done = threading.Event(), threading.Event()
        self._done.set()
        self._thread: threading.Thread | None = None

    def __call__(self) -> None:
        """Clear the marker. Meant for one caller at a time."""
        if not self._done.is_set():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._clear_all, name=f"{self._queue_name} marker", daemon=True)
            self._thread.start()
        self._done.clear()
        self._requested.set()
        self._done.wait(CLEAR_WAIT_SECONDS)

    def _clear_all(self) -> None:
        while True:
            self._requested.wait()
            self._requested.clear()
            try:
                self._client.delete(marker(self._queue_name))
            except Exception as error:
                log.debug("wakeup.marker_not_cleared", queue=self._queue_name, reason=str(error))
            self._done.set()


class SessionWakeup:
    """The wake-ups of one session: they announce messages and commands for its bot."""

    def __init__(self, url: str, bot_id: int) -> None:
        self._queue_name = session_queue(bot_id)
        self.client = client(url)
        self._blocking_client = client(url, SESSION_ANSWER_TIMEOUT_SECONDS)
        self.clear_marker = MarkerClearer(self.client, self._queue_name)

    def wait(self, seconds: float) -> bool:
        """Whether a wake-up arrives within that time, of at most a few seconds. Without Redis none ever does."""
        import redis

        try:
            return self._blocking_client.blpop([_session_list(self._queue_name)], timeout=seconds) is not None
        except redis.RedisError as error:
            log.debug("wakeup.not_received", reason=str(error))
            time.sleep(seconds)
            return False
