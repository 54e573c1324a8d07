"""The evaluator: measures the signals, keeps the incidents, and has their targets notified."""

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from bisnesctl.alerts import deliveries, messages, observations, silences, state_file
from bisnesctl.alerts.deliveries import Rules, TargetRecord
from bisnesctl.alerts.dispatch import Dispatch, Outcome
from bisnesctl.alerts.incidents import Circumstances, Incident, Stage, advance
from bisnesctl.alerts.silences import Silence
from bisnesctl.alerts.state_file import STATE_FILE, AlertState
from bisnesctl.alerts.targets import Target, find_targets
from bisnesctl.database.process_events import LoggedCondition, ProcessEvent
from bisnesctl.errors import ConfigError
from bisnesctl.host import disk
from bisnesctl.host.process_times import boottime
from bisnesctl.processes.deployment import Deployment
from bisnesctl.settings import Settings
from bisnesctl.signals.measurement import Measurement
from bisnesctl.signals.signal import Signal

#: The evaluator's program and instance.
ALERTS = "alerts"
#: Seconds of an evaluation that count, at most: after a longer pause nothing is known about the time between.
MAX_ELAPSED_SECONDS = 60.0
#: Seconds for which a command may start or stop something; after that its incidents fire all the same.
COMMAND_SECONDS = 600.0

log = structlog.get_logger()


class Evaluator:
    """Evaluates one deployment. Everything happens on the thread that calls it; only senders run beside it."""

    def __init__(
        self,
        measure: Callable[[Deployment], Measurement],
        signals: Mapping[str, Signal],
        state: AlertState,
        record: Callable[[ProcessEvent], None],
    ) -> None:
        self._measure = measure
        self._signals = signals
        self._state = state
        self._record = record
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._own: set[str] = set()  # tokens of the deliveries that this evaluator began
        self._last: float | None = None  # on CLOCK_BOOTTIME
        self._command_since: float | None = None
        self._unsaved = LoggedCondition("alerts.state_unsaved", "alerts.state_saved")
        self._misconfigured = LoggedCondition("alerts.targets_unusable", "alerts.targets_usable")

    @property
    def state(self) -> AlertState:
        """The state after the last evaluation."""
        return self._state

    def evaluate(self, deployment: Deployment) -> None:
        """Measures, and moves the incidents on."""
        found = self._measure(deployment)
        now, settings = time.time(), deployment.settings
        quiet = silences.read(settings.run_dir, now)
        circumstances = Circumstances(
            now=now,
            elapsed=self._elapsed(),
            resolve_seconds=settings.alert_resolve_seconds,
            command_runs=self._command_runs(deployment),
            is_unmeasured=lambda incident: incident.signal in found.unmeasured,
            is_silenced=lambda incident: silences.covering(quiet, incident) is not None,
        )
        before = {each.id: each for each in self._state.incidents}
        seen = observations.observe(found.readings.values, self._state.incidents)
        after = advance(self._state.incidents, seen, circumstances)
        for each in after:
            self._report(each, before.get(each.id))
        self._state = replace(self._state, incidents=tuple(after), evaluated_at=now, unmeasured=dict(found.unmeasured))
        self._save(settings)

    def _elapsed(self) -> float:
        now = boottime()
        elapsed = 0.0 if self._last is None else min(now - self._last, MAX_ELAPSED_SECONDS)
        self._last = now
        return elapsed

    def _command_runs(self, deployment: Deployment) -> bool:
        """Whether a command starts or stops something. One that takes too long does not count any more."""
        if not deployment.is_locked():
            self._command_since = None
            return False
        self._command_since = boottime() if self._command_since is None else self._command_since
        return boottime() - self._command_since < COMMAND_SECONDS

    def _report(self, incident: Incident, before: Incident | None) -> None:
        """Records that an incident fired or was resolved."""
        if incident.stage is Stage.PENDING or (before is not None and before.stage is incident.stage):
            return
        fired = incident.stage is Stage.FIRING
        severity = incident.severity.value if fired else "info"
        log.warning("alert.fired" if fired else "alert.resolved", alert=incident.name, severity=incident.severity.value)
        details = {
            "alert": incident.name, "alert_severity": incident.severity.value, "reason": incident.summary,
            "since": incident.began_at, "labels": dict(incident.labels),
        }  # fmt: skip
        kind = "alert_fired" if fired else "alert_resolved"
        self._record(ProcessEvent(ALERTS, ALERTS, kind, severity, time.time(), details))

    # --- Deliveries ------------------------------------------------------------------------------------------------

    def deliver(self, settings: Settings, home: str) -> None:
        """Takes the outcomes of deliveries, and begins those that are due."""
        dispatch = Dispatch(settings.run_dir, self._outcomes)
        targets = self._targets(settings)
        before = self._state
        self._collect(dispatch)
        quiet = silences.read(settings.run_dir)
        for target in targets:
            self._deliver(target, settings, home, dispatch, quiet)
        if self._state != before:
            self._save(settings)

    def _targets(self, settings: Settings) -> list[Target]:
        """The targets of the settings, with a record for each. Those of before stay if the settings are unusable."""
        try:
            found, problem = find_targets(settings), ""
        except ConfigError as error:
            found, problem = [], str(error)
            self._misconfigured.begin(problem)
        else:
            self._misconfigured.end()
        known = self._state.targets
        records = {each.key: known.get(each.key) or TargetRecord(each.label, time.time()) for each in found}
        records = {each.key: replace(records[each.key], label=each.label) for each in found}
        kept = {**known, **records} if problem else records
        self._state = replace(self._state, targets=kept, problem=problem)
        return found

    def _collect(self, dispatch: Dispatch) -> None:
        while True:
            try:
                self._finish(self._outcomes.get_nowait(), dispatch)
            except queue.Empty:
                break
        for record in list(self._state.targets.values()):
            sending = record.sending
            if sending is not None and sending.token not in self._own:
                outcome = dispatch.recall(sending.token, sending.pid)
                if outcome is not None:
                    self._finish(outcome, dispatch)

    def _finish(self, outcome: Outcome, dispatch: Dispatch) -> None:
        for key, record in self._state.targets.items():
            if record.sending is not None and record.sending.token == outcome.token:
                after = deliveries.finished(record, outcome.error, time.time())
                self._replace(key, after)
                if outcome.error:
                    log.warning(
                        "alert.not_delivered", target=record.label, reason=outcome.error, failures=after.failures
                    )
                else:
                    log.info("alert.delivered", target=record.label)
                break
        self._own.discard(outcome.token)
        dispatch.forget(outcome.token)

    def _deliver(self, target: Target, settings: Settings, home: str, dispatch: Dispatch, quiet: list[Silence]) -> None:
        now = time.time()
        incidents, rules = self._state.incidents, self._rules(settings, now, quiet)
        record = deliveries.pruned(self._state.targets[target.key], incidents)
        record = deliveries.joined(record, incidents, rules)
        self._replace(target.key, record)
        changes = deliveries.owed(record, incidents, rules) if deliveries.is_due(record, now) else []
        if not changes:
            return
        try:
            token, pid = dispatch.begin(target, messages.compose(changes, self._signals, home, now))
        except OSError as error:
            self._replace(target.key, deliveries.finished(record, str(error), now))
            return
        self._own.add(token)
        self._replace(target.key, deliveries.begun(record, token, pid, changes, now))

    def _rules(self, settings: Settings, now: float, quiet: list[Silence]) -> Rules:
        repeat = settings.alert_repeat_hours * 3600
        return Rules(now, repeat, lambda incident: silences.covering(quiet, incident) is not None)

    def _replace(self, key: str, record: TargetRecord) -> None:
        self._state = replace(self._state, targets={**self._state.targets, key: record})

    def has_notified(self, settings: Settings, signal: str) -> bool:
        """Whether every target knows all that it should, and this signal is not about to fire."""
        incidents, rules = self._state.incidents, self._rules(settings, time.time(), silences.read(settings.run_dir))
        if any(each.stage is Stage.PENDING and each.signal == signal for each in incidents):
            return False
        return not any(each.sending or deliveries.owed(each, incidents, rules) for each in self._state.targets.values())

    def wait(self, seconds: float) -> None:
        """Waits until a delivery has ended, or this time is over."""
        try:
            self._outcomes.put(self._outcomes.get(timeout=max(seconds, 0.01)))
        except queue.Empty:
            return

    def _save(self, settings: Settings) -> None:
        """Writes the state. If the disk is full, the evaluator continues with the state in memory."""
        try:
            state_file.write(settings.run_dir, self._state)
        except OSError as error:
            self._unsaved.begin(disk.explain(error, settings.run_dir / STATE_FILE))
        else:
            self._unsaved.end()
