"""A signal: one number that says how a deployment is, with its thresholds and its runbook."""

import math
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from bisnesctl import formatting
from bisnesctl.health.verdict import Verdict
from bisnesctl.signals.ranges import Range, plain

#: The prefix of all names in Prometheus.
PREFIX = "bisnes"
#: The values of signals whose unit is `severity`.
FINE, ATTENTION, BROKEN = 0.0, 1.0, 2.0


class Unit(StrEnum):
    """The unit of a signal's values."""

    SECONDS = "seconds"
    BYTES = "bytes"
    RATIO = "ratio"
    COUNT = "count"
    #: 0 fine, 1 needs attention, 2 does not work.
    SEVERITY = "severity"


class Place(StrEnum):
    """The place where a signal is measured. One that does not answer takes its signals with it."""

    HOST = "the machine"
    FILES = "the heartbeat files"
    SUPERVISORD = "supervisord"
    POSTGRESQL = "PostgreSQL"
    REDIS = "Redis"
    NETWORK = "the network"


@dataclass(frozen=True)
class Signal:
    """One row of the table."""

    name: str
    help: str
    unit: Unit
    measured: Place
    #: Why these thresholds, and what to do; Markdown, one line for each step.
    runbook: "Runbook"
    kind: Literal["gauge", "counter"] = "gauge"
    #: The names of its labels.
    labels: tuple[str, ...] = ()
    warning: Range | None = None
    critical: Range | None = None
    #: Seconds for which a value must be out of its range before somebody is notified.
    hold_seconds: float = 0.0
    #: Signals that explain this one while they are critical: nobody is notified of it then.
    explained_by: tuple[str, ...] = ()
    #: One line with the placeholders {value} and the labels; empty: none of its values alerts.
    summary: str = ""
    #: Whether its absence alerts.
    always_there: bool = False
    #: Whether Prometheus sees it: not if a label may have any number of values.
    exported: bool = True

    @property
    def metric(self) -> str:
        """Its name in Prometheus."""
        unit = "" if self.unit is Unit.COUNT else f"_{self.unit}"
        return f"{PREFIX}_{self.name}{unit}{'_total' if self.kind == 'counter' else ''}"

    @property
    def alerts(self) -> bool:
        """Whether it has a threshold."""
        return self.warning is not None or self.critical is not None

    def text(self, value: float) -> str:
        """A value for people."""
        if math.isnan(value):
            return "unknown"
        match self.unit:
            case Unit.SECONDS:
                return formatting.duration(value) if abs(value) >= 10 else f"{value:.3g} s"
            case Unit.BYTES:
                return formatting.size(int(value))
            case Unit.RATIO:
                return f"{100 * value:.0f} %"
            case Unit.SEVERITY:
                return {FINE: "fine", ATTENTION: "needs attention"}.get(value, "does not work")
            case _:
                return plain(round(value, 2))


@dataclass(frozen=True)
class Runbook:
    """The meaning of a signal, where to look, and the commands to type."""

    meaning: str
    look: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """One value of a signal."""

    signal: Signal
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    #: The words of what was measured, such as why a process does not work; may be empty.
    reason: str = ""
    #: Whether an operator caused it, by a stop or a change of settings: nobody is notified of it.
    deliberate: bool = False
    #: The thing that it is about, such as `bot 0128-0`, if no label says so.
    subject: str = ""

    @property
    def name(self) -> str:
        """The signal with its labels, in one word: `memory_of_limit[api-0]`, `pool_used[api-0@other-machine]`."""
        values = ",".join(value for each in self.signal.labels if (value := self._shown(each)))
        return f"{self.signal.name}[{values}]" if values else self.signal.name

    def _shown(self, label: str) -> str:
        """A label in the name. The name of an instance says its process; another machine is named with it."""
        value, host = self.labels.get(label, ""), self.labels.get("host", "")
        if label == "name" and "host" in self.signal.labels:
            return value if host in ("", socket.gethostname()) else f"{value}@{host}"
        return "" if "name" in self.labels and label in ("process", "host") else value

    @property
    def summary(self) -> str:
        """One line for people."""
        template = self.signal.summary or "{signal} is {value}"
        words = {"signal": self.name, "value": self.signal.text(self.value), "reason": self.reason, **self.labels}
        return template.format_map(words).removesuffix(": ").strip()


@dataclass(frozen=True)
class Readings:
    """All that was measured at one time."""

    values: Sequence[Reading] = ()
    #: The signals that could not be measured: the name → the reason.
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    #: Seconds since the epoch.
    at: float = field(default_factory=time.time)

    def of(self, name: str) -> list[Reading]:
        """The readings of one signal."""
        return [each for each in self.values if each.signal.name == name]


def judge(reading: Reading, warning: Range | None = None, critical: Range | None = None) -> Verdict:
    """The verdict on a reading. `warning`, `critical`: instead of the signal's own ranges."""
    if math.isnan(reading.value):
        return Verdict.UNKNOWN
    critical = critical or reading.signal.critical
    if critical is not None and critical.alerts(reading.value):
        return Verdict.CRITICAL
    warning = warning or reading.signal.warning
    return Verdict.WARNING if warning is not None and warning.alerts(reading.value) else Verdict.OK


def explains(cause: Reading, effect: Reading) -> bool:
    """Whether a reading that is critical explains another one: of the same process, name, … if both have that label."""
    if cause.signal.name not in effect.signal.explained_by:
        return False
    return all(effect.labels[name] == value for name, value in cause.labels.items() if name in effect.labels)
