"""A worker: `python -m services.worker meta` delivers the messages of Meta's numbers and applies their webhooks.

PostgreSQL announces messages (`services.outbox.on_call`), Redis announces webhooks (`services.wakeups`).
"""

import gc
import os
import sys
import time
from functools import partial

import structlog

from bisnesctl.bots.ownership import Side
from services.channel import Channel, tuned_for_meta
from services.connectors.meta.connector import MetaConnector
from services.connectors.meta.jobs import of_meta
from services.connectors.meta.translation import incoming
from services.outbox.journal import JournalInUse
from services.runtime.heartbeat import Counters
from services.runtime.process import Process
from services.waking_broker import WakingBroker, serve

#: Seconds that a stopping worker gives the messages in its hand; supervisord kills after more.
STOP_TIMEOUT_SECONDS = 8.0
#: Milliseconds that it then gives the threads that serve wake-ups. Idle ones have no work and need not end.
WAKEUP_STOP_TIMEOUT_MS = 200
#: Seconds between two looks at the progress of the delivery.
PROGRESS_INTERVAL_SECONDS = 5.0
#: The exit status of a worker that ended itself because its delivery hung.
HUNG_STATUS = 70
#: The channels that have workers, with the queues of their webhooks.
CHANNELS = {"meta": "meta-webhooks"}

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM or SIGINT; then finish the messages in hand."""
    channel_name = sys.argv[1]
    program, webhooks = f"{channel_name}-worker", CHANNELS[channel_name]
    process = Process.from_environment(program, lambda settings: settings.database_pool_meta_max)
    process.stop_on_signals()
    broker = WakingBroker(process.settings.redis_dsn)
    try:
        channel = Channel(
            process.settings, process.database, process.accounts, MetaConnector(process.settings),
            incoming.parse, tuned_for_meta(process.settings, Side.MULTIPROCESS), process.instance, process.run,
            is_announced_to=True,
        )  # fmt: skip
    except JournalInUse as error:
        sys.exit(f"{error}: stop the other {process.instance} first (bisnesctl status shows it)")
    counters = Counters(degraded="it waits for the database before it sends")
    heartbeat = process.heartbeat(channel_name, counters)
    heartbeat.start()
    channel.start(process.stopping, lambda reason: setattr(counters, "degraded", reason))
    counters.refresh = partial(_count, channel, counters)
    jobs = of_meta(process.settings, process.database, process.accounts)
    channel.inbox.on_received(jobs.wake)
    jobs.start()
    wakeups = serve(broker, {webhooks: channel.apply_webhooks})
    gc.freeze()  # collections need not look again at the objects made so far
    heartbeat.beat()
    log.info("worker.ready", instance=process.instance)
    while not process.stopping.wait(PROGRESS_INTERVAL_SECONDS):
        _check_progress(channel, process.settings.lease_seconds)
    log.info("worker.stopping", in_hand=channel.delivery.in_hand)
    jobs.stop()
    finished = channel.stop(STOP_TIMEOUT_SECONDS)
    heartbeat.stop()
    log.info("worker.stopped", finished=finished)
    wakeups.stop(timeout=WAKEUP_STOP_TIMEOUT_MS)


def _count(channel: Channel, counters: Counters) -> None:
    channel.delivery.count(counters)
    counters.degraded = channel.trouble
    counters.processed, counters.received = counters.sent, channel.inbox.received
    counters.connections = channel.delivery.in_flight


def _check_progress(channel: Channel, limit_seconds: float) -> None:
    """End a process whose delivery hangs: its successor recovers by the journal."""
    stuck_seconds = time.monotonic() - channel.delivery.progressed
    if channel.delivery.working and stuck_seconds > limit_seconds:
        log.error("worker.hung", seconds=round(stuck_seconds))
        os._exit(HUNG_STATUS)


if __name__ == "__main__":
    main()
