"""Turns the readings of the signals into observations of incidents."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bisnesctl.alerts.incidents import Incident, Observation, Severity, Stage
from bisnesctl.health.verdict import Verdict
from bisnesctl.naming import SESSION, session_name
from bisnesctl.signals.signal import Reading, Signal, judge

_SEVERITIES = {Verdict.WARNING: Severity.WARNING, Verdict.CRITICAL: Severity.CRITICAL}
#: Signals that count what others name one by one.
COUNTS = frozenset({"bots_in_trouble", "unknown_messages"})
#: Signals about one process without a label that says so.
_PROCESSES = {
    "guard_age": "guard", "alerts_age": "alerts", "supervisord_health": "supervisord", "postgres_health": "postgres",
    "redis_health": "redis",
}  # fmt: skip
#: Signals whose cause lies outside of an instance, such as a slow provider: all instances of a process are one matter.
_SHARED = frozenset({"response_time"})
#: The process that does the work of every channel.
_LEGACY = "legacy"


@dataclass(frozen=True)
class _Cause:
    """Something that is wrong, or was a moment ago."""

    name: str
    labels: Mapping[str, str]
    severity: Severity


def observe(readings: Iterable[Reading], incidents: Iterable[Incident]) -> dict[str, Observation]:
    """The observations by name. `incidents`: those so far; one that fires explains others until it is resolved."""
    judged = [(each, _severity(each)) for each in readings if _is_alerted(each.signal)]
    causes: dict[str, list[_Cause]] = {}
    for each, severity in judged:
        if severity is not None:
            causes.setdefault(each.signal.name, []).append(_Cause(each.name, each.labels, severity))
    for incident in incidents:
        if incident.stage is Stage.FIRING:
            cause = _Cause(incident.name, incident.labels, incident.severity)
            causes.setdefault(incident.signal, []).append(cause)
    return {each.name: _observation(each, severity, causes) for each, severity in judged}


def _is_alerted(signal: Signal) -> bool:
    return signal.alerts and bool(signal.summary) and signal.name not in COUNTS


def _severity(reading: Reading) -> Severity | None:
    return _SEVERITIES.get(judge(reading))


def _observation(reading: Reading, severity: Severity | None, causes: Mapping[str, list[_Cause]]) -> Observation:
    return Observation(
        name=reading.name,
        signal=reading.signal.name,
        severity=None if reading.deliberate else severity,  # an operator did it, and knows what follows from it
        summary=reading.summary,
        labels=dict(reading.labels),
        group=_group(reading),
        hold_seconds=reading.signal.hold_seconds,
        known=judge(reading) is not Verdict.UNKNOWN,
        explained_by="" if severity is None else _explanation(reading, severity, causes),
    )


def _group(reading: Reading) -> str:
    """The thing that a reading is about. The process of a WhatsApp Web session is its bot."""
    if reading.signal.name in _SHARED:
        return f"{reading.signal.name} of {reading.labels['process']}"
    name = _PROCESSES.get(reading.signal.name) or reading.labels.get("name", "")
    if bot := reading.labels.get("bot") or reading.subject.removeprefix("bot "):
        company, _, phone = bot.rpartition("-")
        name = session_name(company, int(phone)) if phone.isdigit() else bot
    if name.startswith(SESSION):
        return name.replace(SESSION, "bot", 1)
    mount = reading.labels.get("mount")
    return f"process {name}" if name else f"mount {mount}" if mount else reading.name


def _explanation(reading: Reading, severity: Severity, causes: Mapping[str, list[_Cause]]) -> str:
    """The first cause that is about the same thing and at least as bad."""
    for signal in reading.signal.explained_by:
        for cause in causes.get(signal, ()):
            if cause.name != reading.name and cause.severity.rank >= severity.rank and _concerns(cause, reading):
                return cause.name
    return ""


def _concerns(cause: _Cause, reading: Reading) -> bool:
    """Whether labels that both have are equal. A channel is the work of the processes of its name."""
    shared = cause.labels.keys() & reading.labels.keys()
    if any(cause.labels[each] != reading.labels[each] for each in shared):
        return False
    process, channel = cause.labels.get("process"), reading.labels.get("channel")
    return process is None or channel is None or process in (channel, _LEGACY)
