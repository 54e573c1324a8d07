"""The table of signals: it is complete and agrees with itself."""

import pkgutil
import re
import string

import pytest

from bisnesctl import cli
from bisnesctl.errors import UsageError
from bisnesctl.signals.ranges import Range
from bisnesctl.signals.signal import Signal, Unit
from bisnesctl.signals.table import BY_NAME, SIGNALS, signal

each_signal = pytest.mark.parametrize("row", SIGNALS, ids=lambda row: row.name)


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(SIGNALS)
    assert len({each.metric for each in SIGNALS}) == len(SIGNALS)


@each_signal
def test_names_follow_the_rules_of_prometheus(row: Signal) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", row.name)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in row.labels)
    assert not {"le", "quantile", "instance", "job"}.intersection(row.labels)
    assert row.metric.endswith("_total") is (row.kind == "counter")


@each_signal
def test_a_signal_that_alerts_says_what_it_means_how_to_look_and_what_to_type(row: Signal) -> None:
    assert row.help.endswith(".")
    assert row.runbook.meaning.endswith(".")
    if row.alerts:
        assert row.summary
        assert row.runbook.look


@each_signal
def test_a_summary_uses_the_labels_that_the_signal_has(row: Signal) -> None:
    names = {name for _, name, _, _ in string.Formatter().parse(row.summary) if name}
    assert names <= {"value", "reason", *row.labels}
    assert not row.labels or not row.alerts or names.intersection(row.labels)


@each_signal
def test_the_commands_of_a_runbook_exist(row: Signal) -> None:
    typed = [each.split() for each in (*row.runbook.look, *row.runbook.fix) if each.startswith("bisnesctl ")]
    commands = {each.name.replace("_", "-") for each in pkgutil.iter_modules(cli.__path__)}
    assert {words[1] for words in typed} <= commands


@each_signal
def test_explanations_are_signals_that_can_be_critical(row: Signal) -> None:
    for name in row.explained_by:
        assert BY_NAME[name].critical is not None
        assert name != row.name
        assert row.name not in BY_NAME[name].explained_by


@each_signal
def test_the_critical_range_lies_outside_of_the_warning_range(row: Signal) -> None:
    if row.warning and row.critical:
        assert row.critical.low <= row.warning.low
        assert row.critical.high >= row.warning.high
    if row.unit is Unit.SEVERITY:
        assert row.critical in (None, Range(float("-inf"), 1))


def test_an_unknown_name_suggests_a_similar_one() -> None:
    with pytest.raises(UsageError, match="outbox_oldest"):
        signal("outbox_older")
