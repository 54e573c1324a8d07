"""Incidents: a pure function from the incidents so far and the present observations to the incidents now."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

#: Seconds for which a resolved incident is kept.
KEPT_SECONDS = 24 * 3600.0
#: Resolved incidents that are kept, at most.
KEPT_INCIDENTS = 200
#: An incident that fires again within this time after its end flaps.
FLAP_SECONDS = 3600.0
#: The longest time for which the signal of an incident that flaps must be good, in seconds.
MAX_RESOLVE_SECONDS = 3600.0


class Severity(StrEnum):
    """How bad it is."""

    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return list(Severity).index(self)


class Stage(StrEnum):
    """The stage of an incident."""

    #: Its signal is bad, but not for long enough.
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Observation:
    """One value of a signal, judged."""

    #: The signal with its labels, such as `process_health[api-0]`.
    name: str
    signal: str
    #: None: it is good.
    severity: Severity | None
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    #: The thing that it is about: a process, a bot, a disk, or else the signal.
    group: str = ""
    #: Seconds for which it must be bad before the incident fires.
    hold_seconds: float = 0.0
    #: Whether the value is known.
    known: bool = True
    #: The name of another observation that explains this one; empty: none does.
    explained_by: str = ""


@dataclass(frozen=True)
class Incident:
    """One time that a signal was bad. `id` is unique; `name` is that of the observation."""

    id: str
    name: str
    signal: str
    severity: Severity
    summary: str
    #: When its signal became bad; all times are seconds since the epoch.
    began_at: float
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    #: Incidents about the same thing are one matter to operators.
    group: str = ""
    stage: Stage = Stage.PENDING
    fired_at: float | None = None
    resolved_at: float | None = None
    #: Seconds for which its signal was seen bad, while it is pending.
    bad_seconds: float = 0.0
    #: Seconds for which its signal has been good again, while it fires.
    good_seconds: float = 0.0
    #: How often it fired before, each time within `FLAP_SECONDS` after the last end.
    flaps: int = 0
    #: The name of the observation that explains it now; empty: none does.
    explained_by: str = ""
    #: Whether it fired at a time at which no silence covered it.
    audible: bool = False

    @property
    def active(self) -> bool:
        """Whether it is not resolved."""
        return self.stage is not Stage.RESOLVED

    @property
    def recovering(self) -> bool:
        """Whether it fires although its signal is good at the moment."""
        return self.stage is Stage.FIRING and self.good_seconds > 0


@dataclass(frozen=True)
class Circumstances:
    """The conditions of one evaluation."""

    #: Seconds since the epoch.
    now: float
    #: Seconds since the last evaluation.
    elapsed: float
    #: Seconds for which a signal must be good until its incident is resolved.
    resolve_seconds: float
    #: Whether a command is starting or stopping something; nothing begins to fire meanwhile.
    command_runs: bool = False
    #: Whether an incident cannot be judged, because its signal could not be measured.
    is_unmeasured: Callable[[Incident], bool] = lambda incident: False
    #: Whether a silence covers an incident.
    is_silenced: Callable[[Incident], bool] = lambda incident: False


def advance(
    incidents: Iterable[Incident], observations: Mapping[str, Observation], circumstances: Circumstances
) -> list[Incident]:
    """The incidents after an evaluation, oldest first. `observations`: by name."""
    past = list(incidents)
    active = {each.name: each for each in past if each.active}
    latest = {each.name: each for each in past if not each.active}
    found = [_advance(each, observations.get(each.name), circumstances) for each in active.values()]
    begun = [
        _begin(each, latest.get(name), circumstances)
        for name, each in observations.items()
        if each.known and each.severity is not None and name not in active
    ]
    kept = [each for each in past if not each.active and circumstances.now - (each.resolved_at or 0) < KEPT_SECONDS]
    resolved = [*kept, *(each for each in found if each is not None and not each.active)]
    resolved.sort(key=lambda each: each.resolved_at or 0)
    alive = [each for each in found if each is not None and each.active] + begun
    alive = [_heard(each, circumstances) for each in alive]
    return sorted([*resolved[-KEPT_INCIDENTS:], *alive], key=lambda each: each.began_at)


def _begin(seen: Observation, last: Incident | None, circumstances: Circumstances) -> Incident:
    assert seen.severity is not None  # noqa: S101 - checked by the caller
    now = circumstances.now
    flaps = 0
    if last is not None and last.fired_at is not None and now - (last.resolved_at or 0) < FLAP_SECONDS:
        flaps = last.flaps + 1
    return Incident(
        id=f"{seen.name}@{now:.3f}",
        name=seen.name,
        signal=seen.signal,
        severity=seen.severity,
        summary=seen.summary,
        began_at=now,
        labels=seen.labels,
        group=seen.group or seen.signal,
        flaps=flaps,
        explained_by=seen.explained_by,
    )


def _advance(incident: Incident, seen: Observation | None, circumstances: Circumstances) -> Incident | None:
    """The incident now; None if it was pending and its signal is good."""
    if (seen is None and circumstances.is_unmeasured(incident)) or (seen is not None and not seen.known):
        return incident
    if seen is None or seen.severity is None:
        return None if incident.stage is Stage.PENDING else _recover(incident, circumstances)
    now = replace(incident, severity=seen.severity, summary=seen.summary, explained_by=seen.explained_by)
    return _hold(now, seen, circumstances) if now.stage is Stage.PENDING else replace(now, good_seconds=0.0)


def _hold(incident: Incident, seen: Observation, circumstances: Circumstances) -> Incident:
    """A pending incident that is explained begins to wait again."""
    if incident.explained_by or circumstances.command_runs:
        return replace(incident, bad_seconds=0.0)
    bad = incident.bad_seconds + circumstances.elapsed
    if bad < seen.hold_seconds:
        return replace(incident, bad_seconds=bad)
    return replace(incident, bad_seconds=bad, stage=Stage.FIRING, fired_at=circumstances.now)


def _recover(incident: Incident, circumstances: Circumstances) -> Incident:
    good = incident.good_seconds + circumstances.elapsed
    if good < resolve_seconds(incident, circumstances.resolve_seconds):
        return replace(incident, good_seconds=good)
    return replace(incident, good_seconds=good, stage=Stage.RESOLVED, resolved_at=circumstances.now, explained_by="")


def resolve_seconds(incident: Incident, seconds: float) -> float:
    """Seconds for which the signal must be good: twice as long each time that the incident flaps."""
    return min(seconds * 2.0 ** min(incident.flaps, 16), max(MAX_RESOLVE_SECONDS, seconds))


def _heard(incident: Incident, circumstances: Circumstances) -> Incident:
    if incident.audible or incident.stage is not Stage.FIRING or circumstances.is_silenced(incident):
        return incident
    return replace(incident, audible=True)
