"""The table of all signals: the one definition from which health, metrics, alert rules, dashboard and runbooks come."""

import difflib
import math
from collections.abc import Mapping

from bisnesctl.errors import UsageError
from bisnesctl.signals import bots, machine, processes, queues, servers
from bisnesctl.signals.ranges import Range
from bisnesctl.signals.signal import Place, Runbook, Signal, Unit

MEASURED = Signal(
    "measured",
    "Whether a signal could be measured: 1, otherwise 0.",
    Unit.COUNT,
    Place.HOST,
    Runbook(
        "The place where the signal is measured does not answer: PostgreSQL, supervisord, the network. Its own "
        "signal says more. A signal that is not measured is neither fine nor wrong.",
        ("bisnesctl health",),
    ),
    labels=("signal",),
    warning=Range(1, math.inf),
    hold_seconds=300,
    explained_by=("postgres_health", "supervisord_health"),
    summary="{signal} could not be measured: {reason}",
)
MEASUREMENT_AGE = Signal(
    "measurement_age",
    "Time since the signals were measured.",
    Unit.SECONDS,
    Place.HOST,
    Runbook(
        "/metrics shows what was measured last, usually within half a minute. If it is older, nothing measures.",
        ("bisnesctl health --probe", "bisnesctl logs api --lines 50"),
        ("bisnesctl restart api",),
    ),
    warning=Range(0, 120),
    critical=Range(0, 600),
    explained_by=("supervisord_health",),
    summary="the signals were measured {value} ago",
    always_there=True,
)

#: All signals, in the order in which documents show them.
SIGNALS: tuple[Signal, ...] = (
    *processes.SIGNALS,
    *servers.SIGNALS,
    *queues.SIGNALS,
    *bots.SIGNALS,
    *machine.SIGNALS,
    MEASURED,
    MEASUREMENT_AGE,
)
BY_NAME: Mapping[str, Signal] = {each.name: each for each in SIGNALS}


def signal(name: str) -> Signal:
    """The signal of this name. Raises `UsageError` that suggests a similar one."""
    found = BY_NAME.get(name)
    if found is None:
        near = difflib.get_close_matches(name, BY_NAME, 3, 0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "docs/reference/metrics.md lists all"
        raise UsageError(f"there is no signal {name}: {hint}")
    return found
