"""Bells of sessions: what wakes the one process of a WhatsApp Web number. Like all hints they carry nothing.

Apart from `services.wakeups.redis_broker`, which not every process needs.
"""

import time
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.wakeups.background_call import BackgroundCall

#: What our names in Redis begin with.
NAMESPACE = "bisnes"
#: Seconds for a connection to Redis, for the answer to a command, and beyond the wait of a command that waits.
CONNECT_SECONDS, ANSWER_SECONDS, SLACK_SECONDS = 2, 2, 4
#: Seconds that whoever looks for work waits for the word that it does.
HEARD_SECONDS = 0.05

log = structlog.get_logger()


def client(url: str, seconds: float = ANSWER_SECONDS) -> Any:
    """A client of Redis whose commands end within `seconds`. One that finds its connection closed tries once more; one
    that was not answered in time does not."""
    retry: Any = Retry(NoBackoff(), 1, (redis.ConnectionError,))
    pool = redis.ConnectionPool.from_url(
        url, socket_timeout=seconds, socket_connect_timeout=CONNECT_SECONDS, retry=retry
    )
    return redis.Redis(connection_pool=pool)


def session_queue(bot_id: int) -> str:
    """The name under which the WhatsApp Web session of a bot is hinted at."""
    return f"wwebjs-messages.{bot_id}"


def ring(redis_client: Any, queue_name: str) -> None:
    """Wake the one process that waits at this bell; a ring that nobody hears within a minute is forgotten."""
    bell = f"{NAMESPACE}:{queue_name}.bell"
    with redis_client.pipeline(transaction=False) as pipeline:
        pipeline.lpush(bell, 1).ltrim(bell, 0, 0).expire(bell, 60).execute()


class SessionWakeup:
    """What a session process waits at: it rings when there are messages or commands for its bot."""

    def __init__(self, url: str, bot_id: int) -> None:
        self._queue = session_queue(bot_id)
        self.client = client(url)
        self._waiting = client(url, SLACK_SECONDS)
        #: Says that what was hinted at is being looked for, so that what comes from now on rings again.
        self.heard = BackgroundCall("heard", self._clear, HEARD_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Whether it rang within that time, of at most a few seconds. Without Redis it never does: look for work every
        second as well."""
        try:
            return self._waiting.blpop([f"{NAMESPACE}:{self._queue}.bell"], timeout=seconds) is not None
        except redis.RedisError as error:
            log.debug("Redis is away", reason=str(error))
            time.sleep(seconds)
            return False

    def _clear(self) -> None:
        try:
            self.client.delete(f"{NAMESPACE}:{self._queue}.hinted")
        except redis.RedisError as error:
            log.debug("hint not cleared, it ends by itself", queue=self._queue, reason=str(error))
