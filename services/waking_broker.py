"""Dramatiq as workers use it: consumers that Redis wakes (see `services.wakeups`)."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed

from services.wakeups import ACTORS, ANSWER_TIMEOUT_SECONDS, NAMESPACE, client

#: Seconds for which an idle consumer blocks before it looks for abandoned wake-ups.
IDLE_WAIT_SECONDS = 10
#: Milliseconds for which an idle thread waits for a wake-up before it looks whether it must end.
IDLE_THREAD_WAIT_MS = 10_000
#: Seconds between two looks of a consumer whose process has as many wake-ups as it may have.
FULL_WAIT_SECONDS = 0.05
#: Threads that serve wake-ups: one applies webhooks, the other notes further wake-ups.
THREADS = 2


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
