"""Dramatiq as the wake-up between processes: a hint says that there is work, PostgreSQL says which.

WakeupSender carry nothing, are coalesced, and may be lost: workers look for due work by themselves every second.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed

from services.wakeups.background_call import BackgroundCall
from services.wakeups.session_wakeup import ANSWER_SECONDS, HEARD_SECONDS, NAMESPACE, client, ring

#: Seconds after which a hint counts as lost and another one is sent.
HINT_LIFETIME = 1.0
#: Seconds that an idle consumer waits for a wake-up before it looks for delayed and abandoned work.
IDLE_WAIT = 1
#: Seconds between two looks of a consumer whose process has as many messages as it may.
FULL_WAIT = 0.05

#: The actor that serves each queue; names as in the old system.
ACTORS = {"meta-messages": "send-message", "meta-webhooks": "process-webhooks"}

log = structlog.get_logger()


class WakingBroker(RedisBroker):
    """A Redis broker whose idle consumers block until something is enqueued, instead of polling. Redis 6.2 or newer.

    Idle latency is the network's (dramatiq's own consumers back off up to a second), at next to no CPU.
    """

    def __init__(self, url: str, **options: Any) -> None:
        waiting = client(url, IDLE_WAIT + ANSWER_SECONDS)  # of the consumers, which block
        super().__init__(client=waiting, namespace=NAMESPACE, middleware=[], **options)

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        return _WakingConsumer

    def hint_key(self, queue_name: str) -> str:
        """Set while a hint is on its way."""
        return f"{self.namespace}:{queue_name}.hinted"


class _WakingConsumer(_RedisConsumer):
    def __init__(self, broker: WakingBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout=1)  # its own back-off: a millisecond

    def __next__(self) -> Any:
        message = super().__next__()
        if message is None:
            self._wait()
        return message

    def _wait(self) -> None:
        """Block until the queue is not empty: its first entry is moved to where it is."""
        if self.outstanding_message_count >= self.prefetch:
            time.sleep(FULL_WAIT)
            return
        queue = f"{self.broker.namespace}:{self.queue_name}"
        try:
            self.broker.client.blmove(queue, queue, IDLE_WAIT, "LEFT", "LEFT")
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise ConnectionClosed(error) from None


class WakeupSender:
    """Tells the workers of a queue that there is work. Never raises and never waits for Redis."""

    def __init__(self, broker: WakingBroker) -> None:
        self._broker = broker
        self._names: set[str] = set()  # queues that are to be told
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._away = False
        self._thread: threading.Thread | None = None

    def notify(self, queue_name: str) -> None:
        """Wake a worker of the queue, unless one is about to be woken."""
        with self._lock:
            self._names.add(queue_name)
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="hints", daemon=True)
                self._thread.start()
        self._asked.set()

    def _send_all(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            with self._lock:
                names, self._names = self._names, set()
            for name in names:
                self._send(name)

    def _send(self, name: str) -> None:
        try:
            if not self._broker.client.set(self._broker.hint_key(name), 1, nx=True, px=int(HINT_LIFETIME * 1000)):
                return
            if name in ACTORS:
                self._broker.enqueue(_hint(name))
            else:
                ring(self._broker.client, name)
            self._away = False
        except redis.RedisError as error:
            if not self._away:
                log.warning("Redis is away: workers find messages by themselves within a second", reason=str(error))
            self._away = True


def _hint(queue_name: str) -> Any:
    return dramatiq.Message(queue_name=queue_name, actor_name=ACTORS[queue_name], args=(), kwargs={}, options={})


def hint_clearer(broker: WakingBroker, queue_name: str) -> Callable[[], None]:
    """What says that the work hinted at is being looked for, so that what comes from now on is hinted at again.

    It holds up nobody, even if Redis hangs.
    """

    def clear() -> None:
        try:
            broker.client.delete(broker.hint_key(queue_name))
        except redis.RedisError as error:
            log.debug("hint not cleared, it ends by itself", queue=queue_name, reason=str(error))

    return BackgroundCall(f"{queue_name} hints", clear, HEARD_SECONDS)
