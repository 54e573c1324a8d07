"""The legacy process, for a rollback: API, Meta's webhooks, sending, events, retention and the care of the WhatsApp Web
sessions in one process, from the same code.

It serves port 8443, needs no Redis (its own channel is woken by PostgreSQL and within the process), and may run beside
the other programs during a rollout: claims and leases in PostgreSQL prevent double sends. A rollback does not disturb
the sessions' browsers.
"""

import threading
from functools import partial
from typing import Any

import structlog

from bisnesctl.bots.ownership import Side
from bisnesctl.settings import Settings, load_partly
from services.api.asgi import AsgiApp
from services.api.auth import Auth, declare
from services.api.context import Context, connect
from services.channel import Channel, tuned_for_meta
from services.connectors.meta.connector import MetaConnector
from services.connectors.meta.jobs import of_meta
from services.connectors.meta.receiver import DIALOG360_PATH, MAX_BODY, PATH, blueprint
from services.connectors.meta.translation import incoming
from services.connectors.wwebjs.manager.keeper import create_keeper
from services.events.sender import EventSender
from services.message import Status
from services.outbox.accept import Acceptor
from services.retention import Retention
from services.runtime.background_jobs import BackgroundJobs
from services.runtime.heartbeat import Counters
from services.runtime.process import Process
from services.wakeups import ACTORS, WakeupSender

#: Seconds that a stopping process gives the messages in its hand.
STOP_TIMEOUT_SECONDS = 6.0

log = structlog.get_logger()


class LocalWakeups:
    """Wakes the channel of this process, and the sessions, which have processes of their own."""

    channel: Channel

    def __init__(self, settings: Settings) -> None:
        self._sessions = WakeupSender(settings.redis_dsn)  # without Redis they look every second

    def notify(self, queue_name: str) -> None:
        """There is work: webhooks to apply, or something for a session."""
        if queue_name in ACTORS:
            self.channel.wake(queue_name)
        else:
            self._sessions.notify(queue_name)


def wire(counters: Counters) -> Context:
    """Connect the API to a channel in the same process."""
    process = Process.from_environment("legacy")
    settings, run = process.settings, process.run
    wakeups = LocalWakeups(settings)
    context = connect(settings, wakeups, counters)
    channel = Channel(
        settings, context.database, context.accounts, MetaConnector(settings), incoming.parse,
        tuned_for_meta(settings, Side.LEGACY), "legacy", run, is_announced_to=True,
    )  # fmt: skip
    wakeups.channel = channel
    counters.refresh = partial(_count, counters, context.acceptor, channel)
    events = EventSender(context.settings, context.database, "legacy", run)
    retention = Retention(context.settings, context.database, load_partly())
    jobs = of_meta(context.settings, context.database, context.accounts)
    channel.inbox.on_received(jobs.wake)
    context.on_close(lambda: _stop(channel, events, jobs, retention))
    if settings.enable_wwebjs:
        keeper = create_keeper(settings, context.database, wakeups, context.counters, Side.LEGACY)
        context.on_close(keeper.stop)
        keeper.start()
    channel.start_in_background()
    jobs.start()
    events.start_in_background()
    retention.start()
    return context


def _count(counters: Counters, acceptor: Acceptor, channel: Channel) -> None:
    """The response times are those of the API, which counts them itself, and its errors."""
    counters.processed = acceptor.accepted
    counters.sent = channel.delivery.counts[Status.SENT]
    counters.received, counters.failures = channel.inbox.received, channel.delivery.failures


def _stop(channel: Channel, events: EventSender, jobs: BackgroundJobs, retention: Retention) -> None:
    """All at once, since they share the time that a stopping process has."""
    retention.stop()
    jobs.stop()
    stopping = threading.Thread(target=events.stop, args=(STOP_TIMEOUT_SECONDS,))
    stopping.start()
    channel.stop(STOP_TIMEOUT_SECONDS)
    stopping.join(STOP_TIMEOUT_SECONDS)


def add_webhooks(context: Context, flask: Any) -> None:
    """Serve Meta's webhooks, as the meta process does otherwise."""
    webhooks = blueprint(context.settings, context.database, context.notifier)
    flask.register_blueprint(declare(webhooks, Auth.NONE))  # they prove themselves by their signature


app = AsgiApp(wire, add_webhooks, {path.partition("<")[0]: MAX_BODY for path in (PATH, DIALOG360_PATH)})
