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
from bisnesctl.processes.deployment import Deployment, as_started, open_deployment
from bisnesctl.settings import Settings, load_partly
from bisnesctl.signals.measurement import Measurement, measure
from bisnesctl.signals.processes import SETTINGS_HEALTH
from bisnesctl.signals.signal import ATTENTION, Reading
from bisnesctl.signals.table import BY_NAME

log = structlog.get_logger()


def main() -> None:
    """Evaluates the signals until it is stopped."""
    configure_logging(sys.stdout)
    deployment = _deployment()
    settings = deployment.settings
    process_events = ProcessEventWriter(settings.home / SPOOLS[ALERTS], settings.database_dsn)
    process_events.start()
    unreadable = LoggedCondition("alerts.settings_unreadable", "alerts.settings_readable")
    evaluator = Evaluator(
        lambda deployment: _measure(deployment, unreadable.reason),
        BY_NAME,
        state_file.read(settings.run_dir),
        process_events.record,
    )
    beat(settings)
    log.info("alerts.started", incidents=sum(each.active for each in evaluator.state.incidents))
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


def _measure(deployment: Deployment, unreadable: str) -> Measurement:
    """Measures everything. `unreadable`: why the settings of now cannot be read, so that those of before are used."""
    found = measure(deployment)
    if unreadable:
        found.values = [each for each in found.values if each.signal is not SETTINGS_HEALTH]
        found.values.append(Reading(SETTINGS_HEALTH, ATTENTION, {}, unreadable))
    return found


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
