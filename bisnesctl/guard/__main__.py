"""`python -m bisnesctl.guard`: run by supervisord, whose events come in on the standard input."""

import logging
import os
import queue
import sys
import threading

from bisnesctl.guard import state
from bisnesctl.guard.guard import Guard
from bisnesctl.guard.listener import Event, events
from bisnesctl.guard.notes import Notes
from bisnesctl.host.log_stream import LastingHandler
from bisnesctl.processes.deployment import open_deployment

#: The file of what is not in the database yet, below the home.
SPOOL = "guard-spool.jsonl"


def main() -> None:
    """Be on duty until supervisord ends."""
    handler = LastingHandler(sys.stderr)
    logging.basicConfig(handlers=[handler], level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # one stray word on it, and supervisord would listen to us no more
    waiting: queue.SimpleQueue[Event] = queue.SimpleQueue()
    threading.Thread(target=_be_on_duty, args=(waiting,), name="duty", daemon=True).start()
    for event in events(sys.stdin, answers):
        waiting.put(event)


def _be_on_duty(waiting: "queue.SimpleQueue[Event]") -> None:
    try:
        deployment = open_deployment()
        settings = deployment.settings
        notes = Notes(settings.home / SPOOL, settings.database_dsn)
        notes.start()
        duty = Guard(deployment, state.read(settings.run_dir), notes)
        while True:
            duty.go_on(waiting)
    except BaseException:
        logging.exception("the guard fails; supervisord starts another one")
        os._exit(1)


if __name__ == "__main__":
    main()
