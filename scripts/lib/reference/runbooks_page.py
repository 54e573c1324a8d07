"""`docs/runbooks.md`: an entry for each signal."""

from collections.abc import Iterator, Sequence

from bisnesctl.formatting import duration
from bisnesctl.signals.ranges import Range
from bisnesctl.signals.signal import Signal, Unit
from bisnesctl.signals.table import SIGNALS

INTRODUCTION = """\
# Runbooks

The meaning of each signal, where to look, and the commands to type. Alerts name their entry here.

`bisnesctl health` judges all signals, `bisnesctl health --probe --only SIGNAL` one of them; \
[Monitor](how-to/monitor.md) explains ranges, and [Metrics](reference/metrics.md) lists all signals in one table. \
Words in capitals stand for your own.
"""


def render() -> str:
    """The page."""
    return "\n".join([INTRODUCTION, *("\n".join(_entry(each)) for each in SIGNALS)])


def _entry(signal: Signal) -> Iterator[str]:
    yield f"## {signal.name}\n"
    yield f"{signal.help}\n"
    yield f"{signal.runbook.meaning}\n"
    if signal.alerts:
        yield f"It {_thresholds(signal)}{_hold(signal)}.{_causes(signal)}\n"
    yield from _list("Look", signal.runbook.look)
    yield from _list("Act", signal.runbook.fix)


def _thresholds(signal: Signal) -> str:
    found = []
    for verb, limit in ("warns", signal.warning), ("is critical", signal.critical):
        if limit is not None:
            found.append(f"{verb} {_limit(signal, limit)}")
    return " and ".join(found)


def _limit(signal: Signal, fine: Range) -> str:
    """The values that alert, in words."""
    if signal.unit is Unit.SEVERITY:
        return "if something needs attention" if fine.high < 1 else "if something does not work"
    low = "" if fine.low == 0 or fine.low == float("-inf") else f"below {signal.text(fine.low)}"
    high = "" if fine.high == float("inf") else f"above {signal.text(fine.high)}"
    return " or ".join(each for each in (low, high) if each)


def _hold(signal: Signal) -> str:
    return f", if that lasts for {duration(signal.hold_seconds)}" if signal.hold_seconds else ""


def _causes(signal: Signal) -> str:
    if not signal.explained_by:
        return ""
    return f" Nobody is notified while {_links(signal.explained_by)} is critical, which explains it."


def _links(names: Sequence[str]) -> str:
    links = [f"[{name}](#{name})" for name in names]
    return links[0] if len(links) == 1 else f"{', '.join(links[:-1])} or {links[-1]}"


def _list(title: str, steps: Sequence[str]) -> Iterator[str]:
    if steps:
        yield f"{title}:\n"
        yield "\n".join(f"- {_step(each)}" for each in steps) + "\n"


def _step(text: str) -> str:
    """A command, perhaps with a remark, or a sentence."""
    if text.endswith("."):
        return text
    command, _, remark = text.partition("  # ")
    return f"`{command}`{f': {remark}' if remark else ''}"
