"""The notices that each target got, and those that it should get next: pure functions.

A target converges: nothing is queued, so that a message which is late says what is true when it leaves.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bisnesctl.alerts.incidents import Incident, Severity, Stage
from bisnesctl.backoff import Backoff

#: Pauses after a delivery that failed.
BACKOFF = Backoff(first_seconds=10.0, growth=2.0, longest_seconds=900.0)
#: Seconds between two messages to one target, so that incidents which begin together are in one message.
GROUP_SECONDS = 30.0
#: Seconds after a message about a thing in which it is not said that more is wrong with it, or that it is worse.
ESCALATION_SECONDS = 600.0


class Kind(StrEnum):
    """Why an incident is in a message."""

    FIRED = "fired"
    #: It was a warning, and is critical now.
    WORSE = "worse"
    #: It still fires.
    REPEATED = "repeated"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Change:
    """One incident in a message."""

    kind: Kind
    incident: Incident


@dataclass(frozen=True)
class Notice:
    """The last message to a target about an incident."""

    stage: Stage
    severity: Severity
    at: float


@dataclass(frozen=True)
class Sending:
    """A message on its way."""

    token: str
    pid: int
    #: The incidents in it → what the target knows if it arrives.
    news: Mapping[str, Notice] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class TargetRecord:
    """A target as the evaluator remembers it. Times are seconds since the epoch."""

    label: str
    #: When it was first seen: it gets no notice of incidents that were over by then.
    since: float
    #: Incident's id → the last message about it.
    notices: Mapping[str, Notice] = field(default_factory=dict, hash=False)
    #: Deliveries that failed since the last that succeeded.
    failures: int = 0
    #: When the next delivery may begin.
    next_at: float = 0.0
    error: str = ""
    succeeded_at: float | None = None
    sending: Sending | None = None


@dataclass(frozen=True)
class Rules:
    """The conditions of one look at what is owed."""

    #: Seconds since the epoch.
    now: float
    #: Seconds after which an incident that still fires is repeated; 0: never.
    repeat_seconds: float
    #: Whether a silence covers an incident.
    is_silenced: Callable[[Incident], bool] = lambda incident: False


def owed(record: TargetRecord, incidents: Iterable[Incident], rules: Rules) -> list[Change]:
    """The changes that a target should hear of now. The end of a group is one change, when all of it is resolved."""
    known = list(incidents)
    found = [Change(kind, each) for each in known if (kind := _kind(record, each, rules)) is not None]
    firing = set(_groups_noticed(record, known)) | {each.incident.group for each in found if each.kind is Kind.FIRED}
    return [each for each in found if each.kind is not Kind.RESOLVED or each.incident.group not in firing]


def joined(record: TargetRecord, incidents: Iterable[Incident], rules: Rules) -> TargetRecord:
    """The record in which new incidents need no notice if there was one of their group a moment ago."""
    known = list(incidents)
    groups = _groups_noticed(record, known)
    news = {
        each.id: groups[each.group]
        for each in known
        if each.group in groups
        and rules.now - groups[each.group].at < ESCALATION_SECONDS
        and each.stage is Stage.FIRING
        and each.id not in record.notices
        and not each.explained_by
        and not rules.is_silenced(each)
    }
    return replace(record, notices={**record.notices, **news}) if news else record


def _groups_noticed(record: TargetRecord, incidents: Iterable[Incident]) -> dict[str, Notice]:
    """The groups that still fire, as far as the target knows → the last notice of each."""
    found: dict[str, Notice] = {}
    for each in incidents:
        notice = record.notices.get(each.id)
        if each.stage is Stage.FIRING and notice is not None:
            other = found.get(each.group)
            found[each.group] = notice if other is None or notice.at > other.at else other
    return found


def _kind(record: TargetRecord, incident: Incident, rules: Rules) -> Kind | None:
    notice = record.notices.get(incident.id)
    if incident.stage is Stage.RESOLVED:
        if notice is not None:
            return Kind.RESOLVED if notice.stage is Stage.FIRING else None
        missed = incident.audible and (incident.resolved_at or 0) > record.since
        return Kind.RESOLVED if missed else None
    if incident.stage is Stage.PENDING or incident.recovering or rules.is_silenced(incident):
        return None
    if notice is None:
        return None if incident.explained_by else Kind.FIRED
    age = rules.now - notice.at
    if incident.severity.rank > notice.severity.rank and age >= ESCALATION_SECONDS:
        return Kind.WORSE
    late = 0 < rules.repeat_seconds <= age and not incident.explained_by
    return Kind.REPEATED if late else None


def is_due(record: TargetRecord, now: float) -> bool:
    """Whether a message may leave now. A clock that was moved back delays none by more than the longest pause."""
    return record.sending is None and not now < record.next_at <= now + BACKOFF.longest_seconds


def begun(record: TargetRecord, token: str, pid: int, changes: Sequence[Change], now: float) -> TargetRecord:
    """The record while a message with these changes is on its way."""
    news = {each.incident.id: Notice(each.incident.stage, each.incident.severity, now) for each in changes}
    return replace(record, sending=Sending(token, pid, news))


def finished(record: TargetRecord, error: str, now: float) -> TargetRecord:
    """The record after the delivery. `error`: why it failed; empty: it succeeded."""
    news = record.sending.news if record.sending else {}
    if not error:
        return replace(
            record, sending=None, notices={**record.notices, **news}, failures=0, error="", succeeded_at=now,
            next_at=now + GROUP_SECONDS,
        )  # fmt: skip
    failures = record.failures + 1
    return replace(record, sending=None, failures=failures, error=error, next_at=now + BACKOFF.pause(failures))


def pruned(record: TargetRecord, incidents: Iterable[Incident]) -> TargetRecord:
    """The record without incidents that are not kept any more."""
    kept = {each.id for each in incidents}
    return replace(record, notices={name: each for name, each in record.notices.items() if name in kept})
