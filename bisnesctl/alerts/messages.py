"""The texts of messages: what is wrong, since when, why, and what to type. Words of others stay in one line."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bisnesctl import formatting, moments
from bisnesctl.alerts.deliveries import Change, Kind
from bisnesctl.alerts.incidents import Incident, Severity
from bisnesctl.signals.signal import Signal
from bisnesctl.terminal import printable

#: Incidents that a message describes; of the others it names the number.
MAX_DESCRIBED = 10
#: Characters of a summary, at most.
MAX_SUMMARY = 400
#: The page with the runbooks; each signal has a heading of its own.
RUNBOOKS = "docs/runbooks.md"
#: The version of the JSON that ALERT_COMMAND reads.
VERSION = 1
_WORDS = {Kind.FIRED: "FIRING", Kind.WORSE: "WORSE", Kind.REPEATED: "STILL FIRING", Kind.RESOLVED: "RESOLVED"}


@dataclass(frozen=True)
class Message:
    """One message to one target."""

    title: str
    body: str
    #: `firing`, `resolved` or `test`.
    status: str
    #: The worst severity in it: `warning` or `critical`; `info` if nothing fires.
    severity: str
    #: The JSON that ALERT_COMMAND reads.
    event: dict[str, Any]


def compose(changes: Sequence[Change], signals: Mapping[str, Signal], home: str, now: float) -> Message:
    """The message with these changes: those that fire first, the worst before the others."""
    ordered = sorted(changes, key=lambda each: (each.kind is Kind.RESOLVED, -each.incident.severity.rank))
    firing = [each for each in ordered if each.kind is not Kind.RESOLVED]
    shown = ordered[:MAX_DESCRIBED]
    parts = [_describe(each, signals.get(each.incident.signal), now) for each in shown]
    if len(ordered) > len(shown):
        parts.append(f"and {len(ordered) - len(shown)} more: bisnesctl alerts list")
    worst = max((each.incident.severity for each in firing), key=lambda each: each.rank, default=None)
    title = _title(ordered, worst)
    body = "\n\n".join([*parts, f"{socket.gethostname()}, {home}, {moments.shown(now)}"])
    return _message(
        title, body, "firing" if firing else "resolved", worst or "info", home, now, _plain(ordered, signals)
    )


def test_message(home: str, now: float) -> Message:
    """The message of `bisnesctl alerts test`."""
    body = f"This is a test of bisnesctl's alerts. {socket.gethostname()}, {home}, {moments.shown(now)}"
    return _message(f"[bisnesctl {socket.gethostname()}] test", body, "test", "info", home, now, [])


def _message(
    title: str, body: str, status: str, severity: str, home: str, now: float, alerts: list[dict[str, Any]]
) -> Message:
    event = {
        "version": VERSION, "status": status, "severity": str(severity), "host": socket.gethostname(), "home": home,
        "at": moments.iso(now), "title": title, "text": body, "alerts": alerts,
    }  # fmt: skip
    return Message(title, body, status, str(severity), event)


def _title(ordered: Sequence[Change], worst: Severity | None) -> str:
    word = "RESOLVED" if worst is None else worst.value.upper()
    first = ordered[0].incident
    more = f" and {len(ordered) - 1} more" if len(ordered) > 1 else ""
    return f"[bisnesctl {socket.gethostname()}] {word}: {printable.one_line(first.name)}{more}"


def _describe(change: Change, signal: Signal | None, now: float) -> str:
    incident = change.incident
    lines = [f"{_WORDS[change.kind]}, {incident.severity}: {printable.one_line(incident.name)}", _summary(incident)]
    if change.kind is Kind.RESOLVED:
        end = incident.resolved_at or now
        lasted = formatting.duration(end - incident.began_at)
        return "\n".join([*lines, f"from {moments.shown(incident.began_at)} to {moments.shown(end)} ({lasted})"])
    lines.append(f"since {moments.shown(incident.began_at)} ({formatting.duration(now - incident.began_at)})")
    if incident.flaps:
        lines.append(f"it fired {incident.flaps + 1} times in a row")
    for word, steps in _steps(incident, signal):
        lines += [f"{word}:", *(f"  {step}" for step in steps)] if steps else []
    return "\n".join([*lines, f"runbook: {runbook(incident)}"])


def _summary(incident: Incident) -> str:
    text = printable.one_line(incident.summary)
    return text if len(text) <= MAX_SUMMARY else f"{text[: MAX_SUMMARY - 1]}…"


def _steps(incident: Incident, signal: Signal | None) -> list[tuple[str, list[str]]]:
    if signal is None:
        return []
    name = printable.one_line(incident.labels.get("name", "NAME"))
    return [
        (word, [step.replace("NAME", name) for step in steps])
        for word, steps in (("look", signal.runbook.look), ("then", signal.runbook.fix))
    ]


def runbook(incident: Incident) -> str:
    """The section to read about an incident."""
    return f"{RUNBOOKS}#{incident.signal}"


def _plain(ordered: Sequence[Change], signals: Mapping[str, Signal]) -> list[dict[str, Any]]:
    found = []
    for each in ordered:
        known = asdict(each.incident)
        times = {name: known[name] and moments.iso(known[name]) for name in ("began_at", "fired_at", "resolved_at")}
        found.append({
            "change": each.kind.value, **{name: known[name] for name in ("id", "name", "signal", "labels", "summary")},
            "severity": each.incident.severity.value, **times,
            "steps": dict(_steps(each.incident, signals.get(each.incident.signal))), "runbook": runbook(each.incident),
        })  # fmt: skip
    return found
