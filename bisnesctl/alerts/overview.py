"""The content of `bisnesctl alerts list`, from the files of the evaluator: it needs no server."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bisnesctl import formatting, moments
from bisnesctl.alerts import silences, state_file
from bisnesctl.alerts.deliveries import TargetRecord
from bisnesctl.alerts.evaluator import ALERTS
from bisnesctl.alerts.incidents import Incident, Stage
from bisnesctl.alerts.silences import Silence
from bisnesctl.errors import UsageError
from bisnesctl.processes.deployment import Condition, Deployment
from bisnesctl.signals.table import BY_NAME

#: Seconds after which an evaluation is old, in addition to the interval.
LATE_SECONDS = 60.0
_ORDER = (Stage.FIRING, Stage.PENDING, Stage.RESOLVED)


@dataclass(frozen=True)
class TargetStatus:
    """A target, and what became of the last message."""

    label: str
    #: `ok`, `failing` or `unused`.
    state: str
    error: str
    failures: int
    #: Seconds since the epoch; None: never.
    succeeded_at: float | None
    next_at: float | None

    @property
    def text(self) -> str:
        """The target for people."""
        if self.state == "failing":
            again = f", next attempt at {moments.shown(self.next_at)}" if self.next_at else ""
            return f"{self.label} failing: {self.error} (failed {self.failures} times{again})"
        if self.succeeded_at is None:
            return f"{self.label}: no message was due yet; `bisnesctl alerts test` tries it"
        return f"{self.label}: last message at {moments.shown(self.succeeded_at)}"


@dataclass(frozen=True)
class AlertOverview:
    """All that operators see of alerts."""

    #: Firing ones first, the newest of each stage first.
    incidents: Sequence[Incident]
    silences: Sequence[Silence]
    targets: Sequence[TargetStatus]
    #: When the signals were evaluated last, in seconds since the epoch; None: never.
    evaluated_at: float | None
    #: Remarks that an operator should read before the rest: the evaluator is down, nobody is notified.
    remarks: Sequence[str]


def find(deployment: Deployment) -> AlertOverview:
    """The alerts as they are now."""
    settings = deployment.settings
    state = state_file.read(settings.run_dir)
    newest = sorted(state.incidents, key=lambda each: -each.began_at)
    return AlertOverview(
        sorted(newest, key=lambda each: _ORDER.index(each.stage)),
        silences.read(settings.run_dir),
        [_status(each) for each in state.targets.values()],
        state.evaluated_at or None,
        [each for each in (_evaluator(deployment, state.evaluated_at), _notified(deployment, state)) if each],
    )


def _evaluator(deployment: Deployment, evaluated_at: float) -> str:
    """Why the signals are not evaluated; empty if they are."""
    if deployment.condition() is not Condition.RUNNING:
        return f"nothing runs here, so no alert is sent: `{deployment.start_command}`"
    process = deployment.processes().get(ALERTS)
    if process is None or not process.active:
        return f"the evaluator is not running, so nothing sends alerts: `bisnesctl restart {ALERTS}`"
    age = time.time() - evaluated_at
    late = age > deployment.settings.alert_check_interval / 1000 + LATE_SECONDS and process.uptime > LATE_SECONDS
    if late and evaluated_at:
        return f"the signals were evaluated {formatting.duration(age)} ago: see `bisnesctl logs {ALERTS}`"
    return ""


def _notified(deployment: Deployment, state: state_file.AlertState) -> str:
    """Why nobody is notified; empty if somebody is."""
    if state.problem:
        return state.problem
    settings = deployment.settings
    if settings.alert_urls.get_secret_value() or settings.alert_command:
        return ""
    return f"nobody is notified: set ALERT_URLS or ALERT_COMMAND in {settings.env_file}, then `bisnesctl alerts test`"


def _status(record: TargetRecord) -> TargetStatus:
    state = "failing" if record.failures else "ok" if record.succeeded_at else "unused"
    next_at = record.next_at if record.failures else None
    return TargetStatus(record.label, state, record.error, record.failures, record.succeeded_at, next_at)


def note(incident: Incident, quiet: Sequence[Silence]) -> str:
    """Why nobody is notified of an incident, or that it is ending; empty if neither."""
    if not incident.active:
        return f"resolved at {moments.shown(incident.resolved_at or 0)}"
    if incident.explained_by:
        return f"follows from {incident.explained_by}"
    silence = silences.covering(quiet, incident)
    if silence is not None:
        return f"silenced until {moments.shown(silence.until)}"
    return "its signal is good again" if incident.recovering else ""


def plain(found: AlertOverview) -> dict[str, Any]:
    """The overview for programs."""
    return {
        "evaluated_at": _iso(found.evaluated_at),
        "remarks": list(found.remarks),
        "alerts": [_plain_incident(each, found.silences) for each in found.incidents],
        "silences": [_with_times(asdict(each), "until", "at") for each in found.silences],
        "targets": [_with_times(asdict(each), "succeeded_at", "next_at") for each in found.targets],
    }


def _plain_incident(incident: Incident, quiet: Sequence[Silence]) -> dict[str, Any]:
    known = _with_times(asdict(incident), "began_at", "fired_at", "resolved_at")
    silence = silences.covering(quiet, incident) if incident.active else None
    names = (
        "id", "name", "signal", "labels", "group", "severity", "summary", "began_at", "fired_at", "resolved_at",
        "explained_by",
    )  # fmt: skip
    return {
        "state": incident.stage.value,
        **{name: known[name] for name in names},
        "recovering": incident.recovering,
        "silenced_until": _iso(silence.until if silence else None),
    }


def _with_times(found: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**found, **{name: _iso(found[name]) for name in names}}


def _iso(at: float | None) -> str | None:
    return None if at is None else moments.iso(at)


def check_name(silence: Silence, incidents: Iterable[Incident]) -> None:
    """Raises `UsageError` unless the silence covers a signal, or an incident that there is."""
    known = [(each, each) for each in BY_NAME] + [(each.name, each.signal) for each in incidents]
    signal = silence.name.partition("[")[0]
    if signal in BY_NAME or any(silence.covers(name, own) for name, own in known):
        return
    raise UsageError(
        f"there is no alert {silence.name}: `bisnesctl alerts list` shows those that fire. "
        f"The signals: {', '.join(BY_NAME)}"
    )
