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
from bisnesctl.database.process_events import LoggedCondition, ProcessEventWriter
from bisnesctl.errors import BisnesError
from bisnesctl.host import disk
from bisnesctl.host.log_stream import configure_logging
from bisnesctl.host.process_times import boottime, uptime, waited
from bisnesctl.logs import levels
from bisnesctl.processes.deployment import Deployment, as_started, open_deployment
from bisnesctl.settings import Settings, load_partly
from bisnesctl.signals.measurement import measure
from bisnesctl.signals.table import BY_NAME

log = structlog.get_logger()


def main() -> None:
    """Evaluates the signals until it is stopped."""
    configure_logging(sys.stdout)
    deployment = _deployment()
    settings = deployment.settings
    levels.watch(settings.run_dir, ALERTS, levels.USUAL)
    process_events = ProcessEventWriter(settings.home / SPOOLS[ALERTS], settings.database_dsn)
    process_events.start()
    evaluator = Evaluator(measure, BY_NAME, state_file.read(settings.run_dir), process_events.record)
    beat(settings)
    log.info("alerts.started", incidents=sum(each.active for each in evaluator.state.incidents))
    unreadable = LoggedCondition("alerts.settings_unreadable", "alerts.settings_readable")
    failing = LoggedCondition("alerts.evaluation_failing", "alerts.evaluation_working")
    due, trouble = 0.0, ""
    while True:
        try:
            deployment = _deployment()
            unreadable.end()
        except BisnesError as error:  # the settings of before stay in force
            unreadable.begin(str(error))
        settings = deployment.settings
        if time.monotonic() >= due:
            due = time.monotonic() + settings.alert_check_interval / 1000
            trouble = _evaluate(evaluator, deployment, failing)
        evaluator.deliver(settings, str(settings.home))
        beat(settings, trouble)
        evaluator.wait(min(due - time.monotonic(), settings.heartbeat_interval / 1000))


def _evaluate(evaluator: Evaluator, deployment: Deployment, failing: LoggedCondition) -> str:
    """Evaluates once; returns why it failed, or an empty text. One failure must not end all alerts."""
    try:
        evaluator.evaluate(deployment)
    except Exception as error:
        reason = f"the signals cannot be evaluated: {type(error).__name__}: {error}"
        failing.begin(reason)
        return reason
    failing.end()
    return ""


def _deployment() -> Deployment:
    """The deployment with the settings of this moment, so that a change of `.env` counts at once."""
    return open_deployment(as_started(load_partly().with_defaults()))


def beat(settings: Settings, trouble: str = "") -> None:
    """Writes the heartbeat. On a full disk there is none, which probes take into account."""
    pid = os.getpid()
    content = {
        "process": ALERTS, "instance": ALERTS, "pid": pid,
        "status": "degraded" if trouble else "healthy", "reason": trouble,
        "beat_boottime": boottime(), "waited": waited(pid), "uptimeSeconds": round(uptime(pid), 3),
    }  # fmt: skip
    with contextlib.suppress(OSError):
        disk.refresh(settings.heartbeat_dir / f"{ALERTS}.json", json.dumps(content).encode())


if __name__ == "__main__":
    main()
