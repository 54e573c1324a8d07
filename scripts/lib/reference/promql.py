"""Conditions of signals as expressions of Prometheus."""

import math

from bisnesctl.health.verdict import Verdict
from bisnesctl.signals.ranges import Range, plain
from bisnesctl.signals.signal import Signal
from bisnesctl.signals.table import BY_NAME


def condition(metric: str, fine: Range) -> str:
    """When a value of a metric is outside of its range. Values of a range from 0 are never negative."""
    low, high = plain_or_none(fine.low), plain_or_none(fine.high)
    if fine.inside:
        return " and ".join(each for each in (low and f"{metric} >= {low}", high and f"{metric} <= {high}") if each)
    low = None if fine.low == 0 else low
    return " or ".join(each for each in (low and f"{metric} < {low}", high and f"{metric} > {high}") if each)


def plain_or_none(value: float) -> str | None:
    """A number; None if it is infinite."""
    return None if math.isinf(value) else plain(value)


def alert(signal: Signal, severity: Verdict) -> str:
    """When a signal alerts with this severity, unless another one explains it."""
    critical = condition(signal.metric, signal.critical) if signal.critical else ""
    if severity is Verdict.CRITICAL:
        found = critical
        if signal.always_there:
            found = f"({found}) or absent({signal.metric})"
    else:
        found = condition(signal.metric, signal.warning) if signal.warning else ""
        found = f"({found}) unless ({critical})" if critical else found
    causes = [BY_NAME[name] for name in signal.explained_by]
    for cause in causes:
        common = ", ".join(("job", "instance", *(name for name in cause.labels if name in signal.labels)))
        assert cause.critical is not None  # noqa: S101 - a test of the table proves it
        found = f"({found}) unless on ({common}) ({condition(cause.metric, cause.critical)})"
    return found


def severities(signal: Signal) -> list[Verdict]:
    """The severities with which a signal alerts, mildest first."""
    found = [Verdict.WARNING] if signal.warning else []
    return [*found, Verdict.CRITICAL] if signal.critical else found


def alert_name(signal: Signal, severity: Verdict) -> str:
    """The name of an alert: `BisnesOutboxOldestCritical`."""
    return f"Bisnes{signal.name.title().replace('_', '')}{severity.name.title()}"
