"""Wake-ups between processes, through Redis: a wake-up says that there is work, and PostgreSQL says which.

A wake-up has no content, is coalesced with others, and may be lost: workers and sessions look for due work every
second. Workers are woken by Dramatiq after webhooks were stored, the one process of a WhatsApp Web session by a list of
its own. Messages for workers are announced by PostgreSQL (`services.outbox.on_call`).
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import dramatiq
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from redis.backoff import NoBackoff
from redis.retry import Retry

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
#: Seconds for which a caller waits until its wake-up marker is cleared.
CLEAR_WAIT_SECONDS = 0.05
#: Seconds for which an idle consumer blocks before it looks for abandoned wake-ups.
IDLE_WAIT_SECONDS = 10
#: Milliseconds for which an idle thread waits for a wake-up before it looks whether it must end.
IDLE_THREAD_WAIT_MS = 10_000
#: Seconds between two looks of a consumer whose process has as many wake-ups as it may have.
FULL_WAIT_SECONDS = 0.05
#: Seconds for which a session's wake-up is kept if its process does not wait for it.
SESSION_WAKEUP_SECONDS = 60
#: Threads that serve wake-ups: one applies webhooks, the other notes further wake-ups.
THREADS = 2
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
    retry: Any = Retry(NoBackoff(), 1, (redis.ConnectionError,))
    pool = redis.ConnectionPool.from_url(
        url, socket_timeout=seconds, socket_connect_timeout=CONNECT_TIMEOUT_SECONDS, retry=retry
    )
    return redis.Redis(connection_pool=pool)


def session_queue(bot_id: int) -> str:
    """The queue of a bot's WhatsApp Web session."""
    return f"wwebjs-messages.{bot_id}"


class WakingBroker(RedisBroker):
    """A Redis broker whose idle consumers block until something is enqueued, instead of polling. Redis 6.2 or newer.

    Idle latency is the network's (dramatiq's own consumers back off up to a second), at next to no CPU.
    """

    def __init__(self, url: str, **options: Any) -> None:
        blocking = client(url, IDLE_WAIT_SECONDS + ANSWER_TIMEOUT_SECONDS)
        super().__init__(client=blocking, namespace=NAMESPACE, middleware=[], **options)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue, without Dramatiq's second one for delayed messages: wake-ups are never delayed."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        return _WakingConsumer


class _WakingConsumer(_RedisConsumer):
    def __init__(self, broker: WakingBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout=1)  # its own back-off: a millisecond

    def __next__(self) -> Any:
        message = super().__next__()
        if message is None:
            self._wait()
        return message

    def _wait(self) -> None:
        """Block until the queue is not empty, by a command that moves its first entry to where it is."""
        if self.outstanding_message_count >= self.prefetch:
            time.sleep(FULL_WAIT_SECONDS)
            return
        queue = f"{NAMESPACE}:{self.queue_name}"
        try:
            self.broker.client.blmove(queue, queue, IDLE_WAIT_SECONDS, "LEFT", "LEFT")
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise ConnectionClosed(error) from None


def serve(broker: WakingBroker, actions: Mapping[str, Callable[[], None]]) -> dramatiq.Worker:
    """Begin to call a queue's action, by the queue's name, when it is woken; returns what stops that."""
    for queue_name, action in actions.items():
        dramatiq.actor(actor_name=ACTORS[queue_name], queue_name=queue_name, broker=broker)(action)
    worker = dramatiq.Worker(broker, worker_threads=THREADS, worker_timeout=IDLE_THREAD_WAIT_MS)
    worker.start()
    return worker


class WakeupSender:
    """Wakes workers and sessions. Never raises and never waits for Redis."""

    def __init__(self, broker: WakingBroker) -> None:
        self._broker = broker
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
        try:
            if not self._broker.client.set(_marker(queue_name), 1, nx=True, px=int(MARKER_SECONDS * 1000)):
                return
            if actor := ACTORS.get(queue_name):
                self._broker.enqueue(dramatiq.Message(queue_name, actor, args=(), kwargs={}, options={}))
            else:
                _wake_session(self._broker.client, queue_name)
            self._available = True
        except redis.RedisError as error:
            if self._available:
                log.warning(
                    "redis.unavailable", effect="sessions and workers look for work every second", reason=str(error)
                )
            self._available = False


def _marker(queue_name: str) -> str:
    """The key that is set while a wake-up is on its way."""
    return f"{NAMESPACE}:{queue_name}.hinted"


def _wake_session(redis_client: Any, queue_name: str) -> None:
    wakeup = f"{NAMESPACE}:{queue_name}.bell"
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
                self._client.delete(_marker(self._queue_name))
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
        try:
            wakeup = f"{NAMESPACE}:{self._queue_name}.bell"
            return self._blocking_client.blpop([wakeup], timeout=seconds) is not None
        except redis.RedisError as error:
            log.debug("redis.unavailable", reason=str(error))
            time.sleep(seconds)
            return False
