"""`python -m bisnesctl.alerts`: the program `alerts`, run by supervisord."""

import contextlib
import json
import os
import signal
import sys
import time
from typing import NoReturn

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
from bisnesctl.signals.processes import SETTINGS_HEALTH, SUPERVISORD
from bisnesctl.signals.signal import ATTENTION, Reading
from bisnesctl.signals.table import BY_NAME

#: Seconds for which it notifies operators of the death of supervisord, at most, before it ends as well.
LAST_NOTICE_SECONDS = 60.0

log = structlog.get_logger()


class SupervisordDied(BaseException):
    """supervisord has died, which ends every process below it. Not an `Exception`: nothing on the way may handle it."""


def main() -> None:
    """Evaluates the signals until it is stopped. If supervisord dies, operators are notified of that first."""
    configure_logging(sys.stdout)
    _watch_parent(os.getppid())
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
    try:
        _run(evaluator, deployment, unreadable, failing)
    except SupervisordDied:
        _notify_last(evaluator, failing)


def _watch_parent(parent: int) -> None:
    """SIGTERM ends this program, as usual. From supervisord's death it raises `SupervisordDied`, once."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getppid() == parent:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            raise SupervisordDied

    signal.signal(signal.SIGTERM, end)


def _notify_last(evaluator: Evaluator, failing: LoggedCondition) -> None:
    """Notifies operators that supervisord has died. The next start ends this, and says when it is over."""
    deadline = time.monotonic() + LAST_NOTICE_SECONDS
    with contextlib.suppress(BisnesError):
        deployment = _deployment()
        while time.monotonic() < deadline:
            _evaluate(evaluator, deployment, failing)
            evaluator.deliver(deployment.settings, str(deployment.settings.home))
            if evaluator.has_notified(deployment.settings, SUPERVISORD.name):
                return
            evaluator.wait(1.0)


def _run(
    evaluator: Evaluator, deployment: Deployment, unreadable: LoggedCondition, failing: LoggedCondition
) -> NoReturn:
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
