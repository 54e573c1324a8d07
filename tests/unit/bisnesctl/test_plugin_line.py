"""The line of a monitoring plugin, and that both commands that print it have the same one."""

import pytest

from bisnesctl.cli import cron, health
from bisnesctl.errors import BisnesError
from bisnesctl.health import plugin_line
from bisnesctl.health.verdict import Verdict

TROUBLE = "no socket\nat a|b"


def test_only_the_bar_before_performance_data_is_one():
    assert plugin_line.line("OK", "a|b\n  c", "'x'=1") == "BISNES OK - a/b c | 'x'=1"
    assert plugin_line.line("OK", "fine") == "BISNES OK - fine"


@pytest.mark.parametrize("measure", [cron._measure, lambda: health._measure_line([], [], [])])
@pytest.mark.parametrize(
    ("error", "words"),
    [(BisnesError(TROUBLE), "no socket at a/b"), (KeyError("x"), "KeyError: 'x'"), (OSError("full"), "full")],
)
def test_both_commands_say_alike_that_nothing_was_found_out(measure, error, words, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(cron, "started_deployment", fail)
    monkeypatch.setattr(health, "started_deployment", fail)
    assert measure() == (Verdict.UNKNOWN, f"BISNES UNKNOWN - {words}")
