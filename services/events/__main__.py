"""The process that calls the customers' webhooks: `python -m services.events`."""

import os
import secrets
import signal
import threading

import structlog

from bisnesctl.settings import Settings, load
from services.database.connection import Database
from services.events.sender import EventSender
from services.runtime import logging_setup
from services.runtime.heartbeat import Counters, Heartbeat

PROCESS = "events"
#: Seconds that a stopping process gives the calls in flight; supervisord kills after more.
STOP_TIMEOUT = 7.0
#: Connections to PostgreSQL: what is recorded, and the beat. The one that listens comes on top.
POOL = 2

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM or SIGINT; then finish what is in flight."""
    settings = load()
    logging_setup.configure(settings.log_level)
    stopping = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())
    instance = os.environ.get("BISNES_INSTANCE", PROCESS)
    database = Database(settings.database_dsn, POOL, instance)
    _run(settings, database, EventSender(settings, database, instance, secrets.token_hex(4)), instance, stopping)


def _run(settings: Settings, database: Database, sender: EventSender, instance: str, stopping: threading.Event) -> None:
    counters = Counters(degraded="it waits for the database before it calls webhooks")
    heartbeat = Heartbeat(settings, database, PROCESS, instance, os.getpid(), counters)
    heartbeat.start()
    sender.start(stopping)
    counters.degraded = None
    heartbeat.beat()
    log.info("ready", instance=instance)
    while not stopping.wait(0.2):
        counters.processed, counters.errors = sender.delivered, sender.failed
    log.info("stopping")
    finished = sender.stop(STOP_TIMEOUT)
    heartbeat.stop()
    log.info("stopped", finished=finished)


if __name__ == "__main__":
    main()
