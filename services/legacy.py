"""The single process of old, for a rollback: API, Meta's webhooks, sending, events and the care of the WhatsApp Web
sessions in one, from the same code.

It serves port 8443, needs no Redis (its own sender is woken in the process), and may run beside the others for the
length of a rollout: claims and leases in PostgreSQL keep them from sending anything twice. The sessions' browsers run
on as they are: a rollback disturbs none of them.
"""

import secrets
import threading
from typing import Any

import structlog

from bisnesctl.settings import Settings, load
from services.api.asgi import AsgiApp
from services.api.auth import Auth, declare
from services.api.context import Context, connect
from services.channel import Channel, tuned_for_meta
from services.connectors.meta.jobs import of_meta
from services.connectors.meta.receiver import DIALOG360_PATH, MAX_BODY, PATH, blueprint
from services.connectors.wwebjs.manager.keeper import create_keeper
from services.events.sender import EventSender
from services.runtime.background_jobs import BackgroundJobs
from services.wakeups.redis_broker import ACTORS, WakeupSender, WakingBroker

#: Seconds that a stopping process gives the messages in its hand.
STOP_TIMEOUT = 6.0

log = structlog.get_logger()


class LocalWakeups:
    """Wakes the sender of this very process, and the sessions, which have processes of their own."""

    sender: Channel

    def __init__(self, settings: Settings) -> None:
        self._sessions = WakeupSender(WakingBroker(settings.redis_dsn))  # without Redis they look for work every second

    def notify(self, queue_name: str) -> None:
        """There is work: messages to send, or webhooks to apply."""
        if queue_name in ACTORS:
            self.sender.nudge(queue_name)
        else:
            self._sessions.notify(queue_name)


def wire() -> Context:
    """Connect the API to a sender in the same process."""
    settings, run = load(), secrets.token_hex(4)
    hints = LocalWakeups(settings)
    context = connect(settings, hints)
    sender = Channel(
        settings, context.database, context.accounts, context.connectors["meta"], tuned_for_meta(settings),
        "legacy", run,
    )  # fmt: skip
    hints.sender = sender
    events = EventSender(context.settings, context.database, "legacy", run)
    chores = of_meta(context.settings, context.database, sender.bot)
    context.on_close(lambda: _stop(sender, events, chores))
    if settings.enable_wwebjs:
        keeper = create_keeper(settings, context.database, hints, context.counters)
        context.on_close(keeper.stop)
        keeper.start()
    sender.start_in_background()
    chores.start()
    events.start_in_background()
    return context


def _stop(sender: Channel, events: EventSender, chores: BackgroundJobs) -> None:
    """All at once, since they share the time that a stopping process has."""
    chores.stop()
    stopping = threading.Thread(target=events.stop, args=(STOP_TIMEOUT,))
    stopping.start()
    sender.stop(STOP_TIMEOUT)
    stopping.join(STOP_TIMEOUT)


def add_webhooks(context: Context, flask: Any) -> None:
    """Meta's webhooks, which the meta process serves otherwise."""
    webhooks = blueprint(context.settings, context.database, context.notifier)
    flask.register_blueprint(declare(webhooks, Auth.NONE))  # they prove themselves by their signature


app = AsgiApp(wire, add_webhooks, {path.partition("<")[0]: MAX_BODY for path in (PATH, DIALOG360_PATH)})
