"""`docs/reference/metrics.md`: every signal, as `health`, `/metrics` and the alert rules know it."""

from markdown_table import table

from bisnesctl.formatting import duration
from bisnesctl.signals.ranges import Range
from bisnesctl.signals.signal import Signal, Unit
from bisnesctl.signals.table import SIGNALS

INTRODUCTION = """\
# Metrics

The names of all signals in `bisnesctl health` and in Prometheus, their labels and their thresholds.

`GET /metrics` shows them as they were measured last, usually within half a minute, in the text form of Prometheus; \
see [Monitor](../how-to/monitor.md). Names of a signal in Prometheus begin with `bisnes_` and end with the unit. \
Labels have few values. The name of an instance is one, such as that of a session (company and phone index); phone \
numbers and people never are. [Runbooks](../runbooks.md) say what each signal means and what to do.

Ranges are those of monitoring plugins: a value outside of `0` to `10` alerts for `10`, below 10 for `10:`, above 10 \
for `~:10`. Ratios are between 0 and 1. A severity is 0 (fine), 1 (needs attention) or 2 (does not work).
"""
TITLES = ("signal", "in Prometheus", "type", "labels", "meaning", "warning", "critical", "holds for")


def render() -> str:
    """The page."""
    return f"{INTRODUCTION}\n{table(TITLES, [_row(each) for each in SIGNALS])}\n"


def _row(signal: Signal) -> tuple[str, ...]:
    return (
        f"[`{signal.name}`](../runbooks.md#{signal.name})",
        f"`{signal.metric}`" if signal.exported else "not exported",
        f"{signal.kind}, {signal.unit}",
        ", ".join(f"`{each}`" for each in signal.labels),
        signal.help,
        _range(signal, signal.warning),
        _range(signal, signal.critical),
        duration(signal.hold_seconds) if signal.alerts and signal.hold_seconds else "",
    )


def _range(signal: Signal, limit: Range | None) -> str:
    """The range, and in words if it counts seconds."""
    if limit is None:
        return ""
    edge = limit.low if limit.high == float("inf") else limit.high
    long = signal.unit is Unit.SECONDS and edge >= 100
    return f"`{limit}`{f' ({duration(edge)})' if long else ''}"
