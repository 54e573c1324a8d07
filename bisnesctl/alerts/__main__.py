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
from bisnesctl.alerts.settings_source import SettingsSource
from bisnesctl.database.event_log import SPOOLS
from bisnesctl.database.process_events import LoggedCondition, ProcessEventWriter
from bisnesctl.host import disk
from bisnesctl.host.log_stream import configure_logging
from bisnesctl.host.process_times import boottime, uptime, waited
from bisnesctl.logs import levels
from bisnesctl.processes.deployment import Deployment
from bisnesctl.rollout.steward import Steward
from bisnesctl.settings import Settings
from bisnesctl.signals.processes import SUPERVISORD
from bisnesctl.signals.table import BY_NAME

#: Seconds for which it notifies operators of the death of supervisord, at most, before it ends as well.
LAST_NOTICE_SECONDS = 60.0

#: Seconds between two looks whether somebody works on a rollout or rollback, while one is under way.
MOVING_INTERVAL_SECONDS = 1.0

log = structlog.get_logger()


class SupervisordDied(BaseException):
    """supervisord has died, which ends every process below it. Not an `Exception`: nothing on the way may handle it."""


def main() -> None:
    """Evaluates the signals until it is stopped. If supervisord dies, operators are notified of that first."""
    configure_logging(sys.stdout)
    _watch_parent(os.getppid())
    source = SettingsSource()
    settings = source.deployment.settings
    levels.watch(settings.run_dir, ALERTS, levels.USUAL)
    process_events = ProcessEventWriter(settings.home / SPOOLS[ALERTS], settings.database_dsn)
    process_events.start()
    evaluator = Evaluator(source.measure, BY_NAME, state_file.read(settings.run_dir), process_events.record)
    beat(settings)
    log.info("alerts.started", incidents=sum(each.active for each in evaluator.state.incidents))
    failing = LoggedCondition("alerts.evaluation_failing", "alerts.evaluation_working")
    try:
        _run(evaluator, source, failing)
    except SupervisordDied:
        _notify_last(evaluator, source.deployment, failing)


def _watch_parent(parent: int) -> None:
    """SIGTERM ends this program, as usual. From supervisord's death it raises `SupervisordDied`, once."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getppid() == parent:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            raise SupervisordDied

    signal.signal(signal.SIGTERM, end)


def _run(evaluator: Evaluator, source: SettingsSource, failing: LoggedCondition) -> NoReturn:
    due, trouble = 0.0, ""
    steward = Steward()
    while True:
        deployment = source.read()
        settings = deployment.settings
        longest = MOVING_INTERVAL_SECONDS if steward.look(deployment) else settings.heartbeat_interval / 1000
        if time.monotonic() >= due:
            due = time.monotonic() + settings.alert_check_interval / 1000
            trouble = _evaluate(evaluator, deployment, failing)
        evaluator.deliver(settings, str(settings.home))
        beat(settings, trouble)
        evaluator.wait(min(due - time.monotonic(), settings.heartbeat_interval / 1000, longest))


def _notify_last(evaluator: Evaluator, deployment: Deployment, failing: LoggedCondition) -> None:
    """Notifies operators that supervisord has died. The next start ends this, and says when it is over."""
    deadline = time.monotonic() + LAST_NOTICE_SECONDS
    while time.monotonic() < deadline:
        _evaluate(evaluator, deployment, failing)
        evaluator.deliver(deployment.settings, str(deployment.settings.home))
        if evaluator.has_notified(deployment.settings, SUPERVISORD.name):
            return
        evaluator.wait(1.0)


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
