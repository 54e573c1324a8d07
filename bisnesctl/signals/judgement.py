"""The verdict on a measurement, for `health`: in words, and in the line of a monitoring plugin."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bisnesctl.health import plugin_line, verdict
from bisnesctl.health.verdict import HealthFinding, Verdict
from bisnesctl.signals import bots, machine, processes, queues, servers
from bisnesctl.signals.measurement import Measurement
from bisnesctl.signals.ranges import Range, plain
from bisnesctl.signals.signal import Reading, Signal, Unit, explains, judge

#: Signals whose readings are the findings that `health` has in words: they are not repeated.
IN_FINDINGS = frozenset(
    each.name
    for each in (
        processes.SUPERVISORD, processes.PROCESS_HEALTH, processes.ENDPOINT_HEALTH, processes.SETTINGS_HEALTH,
        machine.DISK_HEALTH, servers.REDIS_HEALTH, bots.BOT_HEALTH, bots.BOTS_IN_TROUBLE,
        bots.PROVIDER_HEALTH,
    )
)  # fmt: skip
#: Signals without thresholds whose values monitoring systems keep nevertheless.
_KEPT = frozenset(
    each.name
    for each in (queues.OUTBOX_WAITING, queues.DEAD_LETTERS, queues.WEBHOOKS_WAITING, bots.SESSIONS, machine.DISK_FREE)
)
_UNITS = {Unit.SECONDS: "s", Unit.BYTES: "B"}


@dataclass(frozen=True)
class Thresholds:
    """Ranges that an operator gave, by signal; and the signals that count, if not all."""

    warning: Mapping[str, Range] = field(default_factory=dict)
    critical: Mapping[str, Range] = field(default_factory=dict)
    only: Collection[str] = ()

    def judge(self, reading: Reading) -> Verdict:
        """The verdict on a reading with these ranges, or the signal's own."""
        name = reading.signal.name
        return judge(reading, self.warning.get(name), self.critical.get(name))

    def counts(self, signal: Signal) -> bool:
        """Whether a signal is asked for."""
        return not self.only or signal.name in self.only


@dataclass(frozen=True)
class Judgement:
    """The verdict on a whole measurement."""

    verdict: Verdict
    #: The findings in words that are not fine.
    findings: Sequence[HealthFinding]
    #: The readings that are not fine, without those that the findings say already.
    readings: Sequence[tuple[Reading, Verdict]]


def judge_all(found: Measurement, thresholds: Thresholds = Thresholds()) -> Judgement:
    """The worst verdict. With `only`, the readings of these signals count, and each must have been measured."""
    readings = found.readings.values
    judged = [(each, thresholds.judge(each)) for each in readings if thresholds.counts(each.signal)]
    if thresholds.only:
        missing = set(thresholds.only) & set(found.unmeasured)
        worst = max((each for _, each in judged), default=Verdict.UNKNOWN)
        worst = Verdict.UNKNOWN if missing and worst is Verdict.OK else worst
        return Judgement(worst, (), [each for each in judged if each[1]])
    findings = [each for group in found.findings.values() for each in group]
    chosen = {*thresholds.warning, *thresholds.critical}
    critical = [each for each, its in judged if its is Verdict.CRITICAL]
    bad = [
        (each, its)
        for each, its in judged
        if its
        and (each.signal.name not in IN_FINDINGS or each.signal.name in chosen)
        and not any(explains(cause, each) for cause in critical)
        and not _is_repeated(each, findings)
    ]
    worst = max([verdict.judge(findings), *(its for _, its in bad)])
    return Judgement(worst, [each for each in findings if each.verdict], bad)


def _is_repeated(reading: Reading, findings: Sequence[HealthFinding]) -> bool:
    """Whether a finding about the same says it already."""
    same = {
        servers.POSTGRES_HEALTH.name: ("postgres", "postgresql", "supervisord"),
        processes.GUARD_AGE.name: ("guard",),
    }
    names = same.get(reading.signal.name, ())
    return any(each.name in names and each.verdict for each in findings)


def in_one_line(found: Measurement, thresholds: Thresholds = Thresholds()) -> tuple[Verdict, str]:
    """The verdict, and the line of a monitoring plugin: words, then performance data."""
    judgement = judge_all(found, thresholds)
    data = " ".join(performance(each, thresholds) for each in found.readings.values if _is_shown(each, thresholds))
    words = _words(found, judgement, thresholds)
    return judgement.verdict, plugin_line.line(judgement.verdict.name, words, data)


def _words(found: Measurement, judgement: Judgement, thresholds: Thresholds) -> str:
    bad = verdict.in_words(judgement.findings)
    bad += [each.summary for each, _ in judgement.readings]
    if thresholds.only:
        bad += [f"{name} could not be measured: {found.unmeasured[name]}" for name in sorted(thresholds.only)
                if name in found.unmeasured]  # fmt: skip
        measured = [f"{each.name} {each.signal.text(each.value)}" for each in found.readings.values
                    if thresholds.counts(each.signal)]  # fmt: skip
        return "; ".join(bad) or ", ".join(measured) or f"not measured: {', '.join(sorted(thresholds.only))}"
    findings = [each for group in found.findings.values() for each in group]
    return "; ".join(bad) or f"{len(findings)} healthy: {', '.join(each.name for each in findings)}"


def _is_shown(reading: Reading, thresholds: Thresholds) -> bool:
    signal = reading.signal
    if thresholds.only:
        return thresholds.counts(signal)
    chosen = signal.name in thresholds.warning or signal.name in thresholds.critical
    return (
        chosen
        or signal.name in _KEPT
        or (signal.alerts and signal.unit is not Unit.SEVERITY and signal.name not in IN_FINDINGS)
    )


def performance(reading: Reading, thresholds: Thresholds = Thresholds()) -> str:
    """One item of performance data: `'label'=value[UOM];warn;crit;min;max`."""
    signal = reading.signal
    unit = "c" if signal.kind == "counter" else _UNITS.get(signal.unit, "")
    value = "U" if not math.isfinite(reading.value) else plain(round(reading.value, 6))
    warning = thresholds.warning.get(signal.name, signal.warning)
    critical = thresholds.critical.get(signal.name, signal.critical)
    label = reading.name.replace("'", "").replace("=", "-").replace("|", "/").replace("\n", " ")
    return f"'{label}'={value}{unit if value != 'U' else ''};{warning or ''};{critical or ''}".rstrip(";")
