"""Signals of supervisord, the guard and the processes: alive, healthy, within their memory, at work."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bisnesctl.health.probes import Status
from bisnesctl.health.verdict import HealthFinding, Verdict
from bisnesctl.signals.instances import Figures
from bisnesctl.signals.ranges import Range
from bisnesctl.signals.signal import Place, Reading, Runbook, Signal, Unit

_INSTANCE = ("process", "name", "host")
_AT_MOST_FINE = Range(-math.inf, 0)
_NOT_BROKEN = Range(-math.inf, 1)

SUPERVISORD = Signal(
    "supervisord_health",
    "Whether supervisord runs and answers.",
    Unit.SEVERITY,
    Place.SUPERVISORD,
    Runbook(
        "supervisord starts and ends all processes. If it does not answer, nothing that ends is started again. It "
        "needs attention if an operator stopped everything.",
        ("bisnesctl status", "bisnesctl logs supervisord --lines 50"),
        ("bisnesctl start --multiprocess", "bisnesctl stop  # first, if it runs but does not answer"),
    ),
    warning=_AT_MOST_FINE,
    critical=_NOT_BROKEN,
    summary="supervisord {value}: {reason}",
)
PROCESS_HEALTH = Signal(
    "process_health",
    "Health of one process, as `bisnesctl health` judges it.",
    Unit.SEVERITY,
    Place.SUPERVISORD,
    Runbook(
        "Something that should run does not work, or works with settings that have changed. A process that is "
        "restarted within half a minute notifies nobody.",
        ("bisnesctl status", "bisnesctl logs --err --lines 50"),
        ("bisnesctl restart NAME",),
    ),
    labels=("process", "name"),
    warning=_AT_MOST_FINE,
    critical=_NOT_BROKEN,
    hold_seconds=30,
    explained_by=("supervisord_health", "guard_age", "postgres_health", "disk_health"),
    summary="process {name} {value}: {reason}",
)
ENDPOINT_HEALTH = Signal(
    "endpoint_health",
    "Whether a health address in the settings, perhaps of another machine, answers with success.",
    Unit.SEVERITY,
    Place.NETWORK,
    Runbook(
        "An address in `API_HEALTH_ENDPOINT`, `META_HEALTH_ENDPOINT` or `WWEBJS_HEALTH_ENDPOINT` does not answer.",
        ("bisnesctl health",),
        ("Look at the machine of that address, and at the network between.",),
    ),
    labels=("name",),
    warning=_AT_MOST_FINE,
    critical=_NOT_BROKEN,
    hold_seconds=60,
    summary="{name} {value}: {reason}",
)
SETTINGS_HEALTH = Signal(
    "settings_health",
    "Whether all settings are accepted.",
    Unit.SEVERITY,
    Place.HOST,
    Runbook(
        "A value in `.env` is refused. Running processes keep the value of its start, or the default; the next start "
        "fails.",
        ("bisnesctl health",),
        ("Correct the value that the message names in `.env`.",),
    ),
    warning=_AT_MOST_FINE,
    summary="settings: {reason}",
)
GUARD_AGE = Signal(
    "guard_age",
    "Time since the guard's last heartbeat.",
    Unit.SECONDS,
    Place.FILES,
    Runbook(
        "The guard restarts processes that end, hang or use too much memory. It beats every few seconds. Without it, "
        "what ends stays down.",
        ("bisnesctl status", "bisnesctl logs guard --lines 50"),
        ("bisnesctl restart guard", "bisnesctl start --multiprocess"),
    ),
    warning=Range(0, 30),
    critical=Range(0, 60),
    explained_by=("supervisord_health",),
    summary="the guard gave its last heartbeat {value} ago: processes that end are not restarted",
)
ALERTS_AGE = Signal(
    "alerts_age",
    "Time since the last heartbeat of the evaluator of alerts.",
    Unit.SECONDS,
    Place.FILES,
    Runbook(
        "The program `alerts` measures these signals and notifies operators. While it is down, nobody is notified by "
        "it: only Prometheus, cron or a dead-man switch outside notices.",
        ("bisnesctl status", "bisnesctl logs alerts --lines 50"),
        ("bisnesctl restart alerts",),
    ),
    warning=Range(0, 60),
    critical=Range(0, 180),
    explained_by=("supervisord_health",),
    summary="the evaluator of alerts gave its last heartbeat {value} ago: nobody is notified",
)
HEARTBEAT_AGE = Signal(
    "heartbeat_age",
    "Time since the last heartbeat of an instance.",
    Unit.SECONDS,
    Place.FILES,
    Runbook(
        "Each instance beats every HEARTBEAT_INTERVAL milliseconds. It is healthy below 30 s, degraded below 60 s, "
        "then down, as in the view v_process_health_overview. The instance hangs, its machine is overloaded, or "
        "another machine cannot reach the database.",
        ("bisnesctl status", "uptime"),
        ("bisnesctl restart NAME",),
    ),
    labels=_INSTANCE,
    warning=Range(0, 30),
    critical=Range(0, 60),
    explained_by=("supervisord_health", "process_health", "postgres_health"),
    summary="{name} gave its last heartbeat {value} ago",
)
RESTARTS = Signal(
    "restarts",
    "Ends and restarts of a process within the last hour, by their cause.",
    Unit.COUNT,
    Place.FILES,
    Runbook(
        "Causes: `quick_death` (it ended soon after its start, in a row), `hang` (it lived but did nothing), `memory` "
        "(its process tree exceeded the limit). Three within an hour are no accident. After ten quick deaths in a row, "
        "of some programs after twenty, the guard gives up.",
        ("bisnesctl status", "bisnesctl logs NAME --lines 100"),
        ("bisnesctl rollback  # if a new release or setting is the cause",),
    ),
    labels=("process", "name", "cause"),
    warning=Range(0, 2),
    critical=Range(0, 5),
    explained_by=("postgres_health", "process_health"),
    summary="{name} was restarted {value} times within an hour ({cause}): {reason}",
)
MEMORY_USED = Signal(
    "memory_used",
    "Memory of an instance with its children.",
    Unit.BYTES,
    Place.HOST,
    Runbook("The resident memory of the process tree, or its proportional share (PSS) if it is near its limit."),
    labels=_INSTANCE,
)
MEMORY_OF_LIMIT = Signal(
    "memory_of_limit",
    "Memory of an instance with its children, as a share of the limit at which the guard restarts it.",
    Unit.RATIO,
    Place.HOST,
    Runbook(
        "At 100 % the guard restarts the instance. Steady growth towards it is a leak, or a limit that is too low.",
        ("bisnesctl status",),
        ("bisnesctl restart NAME  # at a quiet time", "Raise SESSION_MEMORY_MB if sessions need more."),
    ),
    labels=("process", "name"),
    warning=Range(0, 0.85),
    critical=Range(0, 0.95),
    hold_seconds=120,
    summary="{name} uses {value} of its memory limit",
)
CPU_USED = Signal(
    "cpu_used",
    "Processor time that an instance with its children uses, in processors.",
    Unit.RATIO,
    Place.FILES,
    Runbook("1 is one processor. One instance of the API or of a channel can use little more than one."),
    labels=_INSTANCE,
)
UPTIME = Signal(
    "uptime",
    "Time since the start of an instance.",
    Unit.SECONDS,
    Place.FILES,
    Runbook("A drop to zero is a restart."),
    labels=_INSTANCE,
)
CONNECTIONS = Signal(
    "connections",
    "Open connections of an instance: of clients, to its provider, to WhatsApp.",
    Unit.COUNT,
    Place.FILES,
    Runbook("The API's are those of callers, a worker's those to its provider."),
    labels=_INSTANCE,
)
RESPONSE_TIME = Signal(
    "response_time",
    "Average time of an answer within the last minute: of the API to its callers, of a provider to a worker.",
    Unit.SECONDS,
    Place.FILES,
    Runbook(
        "Callers expect an answer within a second or two; with 5 s many give up and try again. Workers report the "
        "answers of their provider.",
        ("bisnesctl status", "uptime", "curl -s http://127.0.0.1:3000/metrics/api"),
        ("Scale API_INSTANCES or META_INSTANCES if a processor is free; look at PostgreSQL otherwise.",),
    ),
    labels=_INSTANCE,
    warning=Range(0, 2),
    critical=Range(0, 5),
    hold_seconds=120,
    explained_by=("postgres_health", "provider_health"),
    summary="answers of {name} take {value} on average",
)
POOL_USED = Signal(
    "pool_used",
    "Connections of an instance's pool that are in use, as a share of its size.",
    Unit.RATIO,
    Place.FILES,
    Runbook(
        "With all connections in use, requests wait for one, at most for 3 s.",
        ("bisnesctl health --json", "curl -s http://127.0.0.1:3000/metrics"),
        ("Raise DATABASE_POOL_API_MAX or its like, within max_connections.",),
    ),
    labels=_INSTANCE,
    warning=Range(0, 0.9),
    hold_seconds=120,
    explained_by=("postgres_health",),
    summary="{name} uses {value} of its connections to PostgreSQL",
)
POOL_WAITS = Signal(
    "pool_waits",
    "Uses of an instance's pool that had to wait for a connection, since its start.",
    Unit.COUNT,
    Place.FILES,
    Runbook("Its growth says how often requests waited because the pool was empty."),
    kind="counter",
    labels=_INSTANCE,
)
POOL_TIMEOUTS = Signal(
    "pool_timeouts",
    "Uses of an instance's pool that failed because no connection was free in time, since its start.",
    Unit.COUNT,
    Place.FILES,
    Runbook("Each was a request or a piece of work that failed and is tried again."),
    kind="counter",
    labels=_INSTANCE,
)
SENT, RECEIVED, PROCESSED, ERRORS = (
    Signal(
        name,
        about,
        Unit.COUNT,
        Place.FILES,
        Runbook(f"Counts from the start of the instance. {more}"),
        kind="counter",
        labels=_INSTANCE,
    )
    for name, about, more in (
        ("messages_sent", "Messages that an instance accepted (API) or sent (channels).", "A restart begins at 0."),
        ("messages_received", "Messages of people that an instance stored.", "A restart begins at 0."),
        ("processed", "Messages and webhooks that an instance handled.", "A restart begins at 0."),
        ("errors", "Errors of an instance.", "`bisnesctl logs --err` has the reasons."),
    )
)
FAILURES = Signal(
    "failures",
    "Messages that failed permanently or with an unknown outcome, by the code of the error.",
    Unit.COUNT,
    Place.FILES,
    Runbook(
        "docs/reference/errors.md lists the codes. A new code that grows is a change at the provider or in what "
        "callers send.",
        ("bisnesctl dead-letters list",),
    ),
    kind="counter",
    labels=(*_INSTANCE, "code"),
)
SIGNALS = (
    SUPERVISORD, PROCESS_HEALTH, ENDPOINT_HEALTH, SETTINGS_HEALTH, GUARD_AGE, ALERTS_AGE, HEARTBEAT_AGE, RESTARTS,
    MEMORY_USED, MEMORY_OF_LIMIT, CPU_USED, UPTIME, CONNECTIONS, RESPONSE_TIME, POOL_USED, POOL_WAITS, POOL_TIMEOUTS,
    SENT, RECEIVED, PROCESSED, ERRORS, FAILURES,
)  # fmt: skip

#: The counters of a heartbeat → their signals.
_COUNTERS = {
    "sent": SENT, "received": RECEIVED, "processed": PROCESSED, "errors": ERRORS,
    "poolWaits": POOL_WAITS, "poolTimeouts": POOL_TIMEOUTS,
}  # fmt: skip


#: The statuses of processes that an operator caused.
_DELIBERATE = (Status.STOPPED, Status.OUTDATED, Status.EXTRA)


def severity(finding: HealthFinding) -> float:
    """The value of a signal whose unit is `severity`."""
    return float(min(finding.verdict, Verdict.CRITICAL))


def worst(signal: Signal, findings: Sequence[HealthFinding], labels: Mapping[str, str] | None = None) -> Reading:
    """One reading of several findings: the worst of them, with the reasons of all."""
    value = max((severity(each) for each in findings), default=0.0)
    reasons = [each.health.reason for each in findings if each.health.reason]
    bad = [each for each in findings if each.verdict]
    deliberate = bool(bad) and all(each.health.status in _DELIBERATE for each in bad)
    return Reading(signal, value, labels or {}, "; ".join(reasons), deliberate)


def read_figures(found: Figures) -> Iterator[Reading]:
    """The readings of one heartbeat."""
    labels = found.labels
    yield Reading(HEARTBEAT_AGE, found.age, labels)
    for name, counter in _COUNTERS.items():
        if (count := found.number(name)) is not None:
            yield Reading(counter, count, labels)
    for signal, name, factor in (UPTIME, "uptimeSeconds", 1.0), (CPU_USED, "cpuPercent", 0.01), (
        CONNECTIONS, "connections", 1.0
    ):  # fmt: skip
        if (value := found.number(name)) is not None:
            yield Reading(signal, value * factor, labels)
    if responses := found.number("responses"):
        yield Reading(RESPONSE_TIME, (found.number("responseMs") or 0.0) / responses / 1000, labels)
    if size := found.number("poolSize"):
        yield Reading(POOL_USED, (found.number("poolUsed") or 0.0) / size, labels)
    yield from _failures(found.values.get("failures"), labels)


def _failures(counts: Any, labels: Mapping[str, str]) -> Iterator[Reading]:
    if isinstance(counts, dict):
        for code, count in counts.items():
            yield Reading(FAILURES, float(count), {**labels, "code": str(code)})


def read_restarts(
    recent: Mapping[str, Iterable[tuple[str, int, str]]], processes: Mapping[str, str]
) -> Iterator[Reading]:
    """The readings of the guard's records. `recent`: instance → cause, how often, and the last reason."""
    for name, causes in recent.items():
        for cause, count, reason in causes:
            if name in processes:
                yield Reading(RESTARTS, count, {"process": processes[name], "name": name, "cause": cause}, reason)
