"""The process that calls the customers' webhooks, and deletes old rows beside: `python -m services.events`."""

from functools import partial

import structlog

from bisnesctl.settings import load_partly
from services.events.sender import EventSender
from services.retention import Retention
from services.runtime.heartbeat import Counters
from services.runtime.process import Process

PROGRAM = "events"
#: Seconds that a stopping process gives the calls in flight; supervisord kills after more.
STOP_TIMEOUT_SECONDS = 7.0
#: Connections to PostgreSQL: of the sender and of the heartbeat. The retention uses them for a moment, to see whether a
#: run is due. The one that listens and that of a run come on top.
POOL_SIZE = 2

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM or SIGINT; then finish the calls in flight."""
    process = Process.from_environment(PROGRAM, lambda _: POOL_SIZE)
    process.stop_on_signals()
    sender = EventSender(process.settings, process.database, process.instance, process.run)
    counters = Counters(degraded="it waits for the database before it calls webhooks")
    counters.refresh = partial(_count, sender, counters)
    heartbeat = process.heartbeat(PROGRAM, counters)
    heartbeat.start()
    retention = Retention(process.settings, process.database, load_partly())
    retention.start()
    sender.start(process.stopping)
    counters.degraded = None
    heartbeat.beat()
    log.info("events.ready", instance=process.instance)
    process.stopping.wait()
    log.info("events.stopping")
    retention.stop()
    finished = sender.stop(STOP_TIMEOUT_SECONDS)
    heartbeat.stop()
    log.info("events.stopped", finished=finished)


def _count(sender: EventSender, counters: Counters) -> None:
    counters.processed, counters.errors = sender.delivered, sender.failed
    counters.last_error = sender.last_error or counters.last_error


if __name__ == "__main__":
    main()
