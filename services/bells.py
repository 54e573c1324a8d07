"""Bells of sessions: what wakes the one process of a WhatsApp Web number. Like all hints they carry nothing.

Apart from `services.broker`, which not every process needs.
"""

import time
from typing import Any

import redis
import structlog

#: What our names in Redis begin with.
NAMESPACE = "bisnes"
#: Seconds beyond a wait after which Redis counts as away, and for a connection.
SLACK, CONNECT = 5, 2

log = structlog.get_logger()


def session_queue(bot_id: int) -> str:
    """The name under which the WhatsApp Web session of a bot is hinted at."""
    return f"wwebjs-messages.{bot_id}"


def ring(client: Any, queue_name: str) -> None:
    """Wake the one process that waits at this bell; a ring that nobody hears within a minute is forgotten."""
    bell = f"{NAMESPACE}:{queue_name}.bell"
    with client.pipeline(transaction=False) as pipeline:
        pipeline.lpush(bell, 1).ltrim(bell, 0, 0).expire(bell, 60).execute()


class SessionBell:
    """What a session process waits at: it rings when there are messages or commands for its bot."""

    def __init__(self, url: str, bot_id: int) -> None:
        self._queue = session_queue(bot_id)
        pool = redis.ConnectionPool.from_url(url, socket_timeout=SLACK, socket_connect_timeout=CONNECT)
        self.client = redis.Redis(connection_pool=pool)

    def wait(self, seconds: float) -> bool:
        """Whether it rang within that time. Without Redis it never does: look for work every second as well."""
        try:
            return self.client.blpop([f"{NAMESPACE}:{self._queue}.bell"], timeout=seconds) is not None
        except redis.RedisError as error:
            log.debug("Redis is away", reason=str(error))
            time.sleep(seconds)
            return False

    def heard(self) -> None:
        """Say that what was hinted at is being looked for, so that what comes from now on rings again."""
        try:
            self.client.delete(f"{NAMESPACE}:{self._queue}.hinted")
        except redis.RedisError as error:
            log.debug("hint not cleared, it ends by itself", queue=self._queue, reason=str(error))
