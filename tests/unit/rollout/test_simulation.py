"""A small version of `scripts/simulate-rollouts`: how often the verdict is wrong."""

from collections import Counter

from bisnesctl.rollout.records import Ruling
from tests.bench.rollouts import Scenario, main, simulate


def rulings(scenario, rollouts=25):
    return Counter(simulate(scenario, seed).ruling for seed in range(rollouts))


def test_good_rollouts_pass_and_none_fails():
    assert rulings(Scenario("nothing is wrong", 20.0)) == {Ruling.PASS: 25}


def test_bots_that_are_bad_by_themselves_fail_nothing():
    assert Ruling.FAIL not in rulings(Scenario("bad bots", 5.0, bad_bots=3))


def test_more_failures_and_longer_latencies_are_found():
    assert rulings(Scenario("failures", 20.0, failing_moved=0.05)) == {Ruling.FAIL: 25}
    assert rulings(Scenario("latency", 5.0, slower=2.0)) == {Ruling.FAIL: 25}


def test_little_traffic_is_held_rather_than_passed():
    found = rulings(Scenario("little traffic", 1 / 600))
    assert found == {Ruling.HOLD: 25}


def test_the_table_names_every_scenario(capsys):
    main(["--rollouts", "1", "--traffic", "50/s"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(line.count("|") == 9 for line in lines)
