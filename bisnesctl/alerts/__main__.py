"""`python -m bisnesctl.alerts`: the program `alerts`, run by supervisord."""

import contextlib
import json
import os
import sys
import time

import structlog

from bisnesctl.alerts import state_file
from bisnesctl.alerts.evaluator import ALERTS, Evaluator
from bisnesctl.database.event_log import SPOOLS
from bisnesctl.database.process_events import ProcessEventWriter
from bisnesctl.host import disk
from bisnesctl.host.log_stream import configure_logging
from bisnesctl.host.process_times import boottime, uptime, waited
from bisnesctl.processes.deployment import Deployment, as_started, open_deployment
from bisnesctl.settings import Settings, load_partly
from bisnesctl.signals.measurement import measure
from bisnesctl.signals.table import BY_NAME

log = structlog.get_logger()


def main() -> None:
    """Evaluates the signals until it is stopped."""
    configure_logging(sys.stdout)
    settings = _deployment().settings
    process_events = ProcessEventWriter(settings.home / SPOOLS[ALERTS], settings.database_dsn)
    process_events.start()
    evaluator = Evaluator(measure, BY_NAME, state_file.read(settings.run_dir), process_events.record)
    beat(settings)
    log.info("alerts.started", incidents=sum(each.active for each in evaluator.state.incidents))
    due = 0.0
    while True:
        deployment = _deployment()
        settings = deployment.settings
        if time.monotonic() >= due:
            due = time.monotonic() + settings.alert_check_interval / 1000
            evaluator.evaluate(deployment)
        evaluator.deliver(settings, str(settings.home))
        beat(settings)
        evaluator.wait(min(due - time.monotonic(), settings.heartbeat_interval / 1000))


def _deployment() -> Deployment:
    """The deployment with the settings of this moment, so that a change of `.env` counts at once."""
    return open_deployment(as_started(load_partly().with_defaults()))


def beat(settings: Settings) -> None:
    """Writes the heartbeat. On a full disk there is none, which probes take into account."""
    pid = os.getpid()
    content = {
        "process": ALERTS, "instance": ALERTS, "pid": pid, "status": "healthy", "reason": "",
        "beat_boottime": boottime(), "waited": waited(pid), "uptimeSeconds": round(uptime(pid), 3),
    }  # fmt: skip
    with contextlib.suppress(OSError):
        disk.refresh(settings.heartbeat_dir / f"{ALERTS}.json", json.dumps(content).encode())


if __name__ == "__main__":
    main()
