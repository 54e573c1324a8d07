"""A worker process: `python -m services.worker meta` delivers the messages of Meta's numbers.

Dramatiq wakes it (its broker blocks, see `services.wakeups.redis_broker`); what is to be done stands in PostgreSQL.
"""

import gc
import os
import secrets
import signal
import sys
import threading
import time
from functools import partial

import dramatiq
import structlog

from bisnesctl.settings import Settings, load
from services.channel import Channel, tuned_for_meta
from services.connectors.base import Connector
from services.connectors.meta.jobs import of_meta
from services.connectors.meta.translation.connector import MetaConnector
from services.database.connection import Database
from services.message import Status
from services.outbox.send_journal import JournalInUse
from services.runtime import logging_setup
from services.runtime.account_cache import AccountCache
from services.runtime.heartbeat import Counters, Heartbeat
from services.wakeups.redis_broker import ACTORS, WakingBroker, hint_clearer

#: Seconds that a stopping worker gives the messages in its hand; supervisord kills after more.
STOP_TIMEOUT = 8.0
#: Threads that serve hints: one delivers, one applies webhooks, the others only take note of further hints.
THREADS = 3

log = structlog.get_logger()


def connector_for(process: str, settings: Settings) -> Connector:
    """The connector of a channel. Raises KeyError for a channel without workers."""
    return {"meta": lambda: MetaConnector(settings)}[process]()


def main() -> None:
    """Run until SIGTERM or SIGINT; then finish what is in hand."""
    process = sys.argv[1]
    settings = load()
    logging_setup.configure(settings.log_level)
    stopping = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())
    instance = os.environ.get("BISNES_INSTANCE", f"{process}-worker")
    database = Database(settings.database_dsn, settings.database_pool_meta_max, instance)
    directory = AccountCache(database)
    directory.start()
    broker = WakingBroker(settings.redis_dsn)
    try:
        sender = Channel(
            settings, database, directory, connector_for(process, settings), tuned_for_meta(settings),
            instance, secrets.token_hex(4),
            before_look=hint_clearer(broker, f"{process}-messages"),
        )  # fmt: skip
    except JournalInUse as error:
        sys.exit(f"{error}: stop the other {instance} first (bisnesctl status shows it)")
    _run(process, instance, settings, database, broker, sender, stopping)


def _run(
    process: str, instance: str, settings: Settings, database: Database, broker: WakingBroker, sender: Channel,
    stopping: threading.Event,
) -> None:  # fmt: skip
    counters = Counters(degraded="it waits for the database before it sends")
    heartbeat = Heartbeat(settings, database, process, instance, os.getpid(), counters)
    heartbeat.start()
    sender.start(stopping, partial(setattr, counters, "degraded"))
    counters.degraded = None
    chores = of_meta(settings, database, sender.bot)
    chores.start()
    worker = _serve_hints(process, broker, sender)
    heartbeat.beat()
    log.info("ready", instance=instance)
    while not stopping.wait(0.2):
        _count(sender, counters)
        _check_progress(sender, settings.lease_seconds)
    log.info("stopping", in_hand=sender.delivery.in_hand)
    chores.stop()
    finished = sender.stop(STOP_TIMEOUT)
    heartbeat.stop()
    log.info("stopped", finished=finished)
    worker.stop(timeout=1000)


def _serve_hints(process: str, broker: WakingBroker, sender: Channel) -> dramatiq.Worker:
    serve = {"send-message": sender.delivery.wake, "process-webhooks": sender.work_off_webhooks}
    for queue in (f"{process}-messages", f"{process}-webhooks"):
        dramatiq.actor(actor_name=ACTORS[queue], queue_name=queue, broker=broker)(serve[ACTORS[queue]])
    worker = dramatiq.Worker(broker, worker_threads=THREADS)
    worker.start()
    gc.freeze()  # what was made so far stays; collections need not look at it again
    return worker


def _count(sender: Channel, counters: Counters) -> None:
    counters.degraded = sender.trouble
    counters.processed = sender.delivery.counts[Status.SENT]
    counts = sender.delivery.counts
    counters.errors = counts[Status.FAILED] + counts[Status.UNKNOWN] + sender.delivery.faults


def _check_progress(sender: Channel, limit: float) -> None:
    """End a process whose delivery hangs: its successor reads the journal and goes on."""
    stuck = time.monotonic() - sender.delivery.progressed
    if sender.delivery.working and stuck > limit:
        log.error("the delivery hangs, ending the process so that another takes over", seconds=round(stuck))
        os._exit(70)


if __name__ == "__main__":
    main()
