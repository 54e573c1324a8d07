"""`python -m bisnesctl.guard`: run by supervisord, which sends its events to the standard input."""

import os
import queue
import sys
import threading

import structlog

from bisnesctl.audit.delivery import AuditDelivery
from bisnesctl.database.event_log import SPOOLS
from bisnesctl.database.process_events import ProcessEventWriter
from bisnesctl.guard import state_file
from bisnesctl.guard.guard import Guard
from bisnesctl.guard.listener import SupervisorEvent, events
from bisnesctl.health.guard_file import GUARD
from bisnesctl.host.log_stream import configure_logging
from bisnesctl.logs import levels
from bisnesctl.processes import started_settings
from bisnesctl.processes.deployment import as_started, open_deployment
from bisnesctl.settings import load_partly

log = structlog.get_logger()


def main() -> None:
    """Guards the deployment until supervisord ends."""
    configure_logging(sys.stderr)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # stdout carries the event-listener protocol; any other output, a library's too, would break it.
    sys.stdout = sys.stderr
    os.dup2(sys.stderr.fileno(), 1)
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    waiting: queue.SimpleQueue[SupervisorEvent] = queue.SimpleQueue()
    threading.Thread(target=_guard, args=(waiting,), name="guard", daemon=True).start()
    for event in events(sys.stdin, answers):
        waiting.put(event)


def _guard(waiting: "queue.SimpleQueue[SupervisorEvent]") -> None:
    try:
        deployment = open_deployment(as_started(load_partly().with_defaults()))
        settings = deployment.settings
        started_settings.record(settings, GUARD, os.getpid())
        levels.watch(settings.run_dir, GUARD, levels.USUAL)
        process_events = ProcessEventWriter(settings.home / SPOOLS[GUARD], settings.database_dsn)
        process_events.start()
        AuditDelivery(settings).start()
        guard = Guard(deployment, state_file.read(settings.run_dir), process_events)
        while True:
            guard.run_once(waiting)
    except BaseException:
        log.exception("guard.failed", next_step="supervisord starts it again")
        os._exit(1)


if __name__ == "__main__":
    main()
