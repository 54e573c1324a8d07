"""When a process counts as hung."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.guard.hangs import StuckCounter, countable_silence, silence
from bisnesctl.health.heartbeats import Heartbeat
from bisnesctl.host import process_times
from bisnesctl.processes import topology
from tests.support.waiting import wait_until

SECONDS = st.floats(0, 1e6)


def beat(pid, age, waited=0.0):
    """A heartbeat of this process."""
    return Heartbeat(pid, "meta", "healthy", "", age, waited, "", {})


@given(SECONDS, st.floats(-10, 1e6))
def test_a_counted_silence_is_between_its_minimum_and_its_length(since, waited):
    assert 0.1 * since - 1e-6 <= countable_silence(since, waited) <= since
    assert countable_silence(since, 0.0) == since


def test_the_heartbeat_of_a_predecessor_does_not_count():
    old = beat(1, 1e6)
    assert silence(os.getpid(), old) <= process_times.uptime(os.getpid())


def test_a_heartbeat_since_the_start_counts_by_its_age():
    assert silence(os.getpid(), beat(os.getpid(), 0.01, 1e9)) == pytest.approx(0.01)


def test_a_process_that_is_gone_is_not_judged():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(60)
    with pytest.raises(FileNotFoundError):
        silence(gone.pid, None)


def test_a_process_hangs_after_several_checks_in_a_row():
    counter = StuckCounter(limit=3)
    assert [counter.count({7}), counter.count({7, 8}), counter.count({7, 8})] == [set(), set(), {7}]
    assert counter.count(set()) == set()
    assert counter.count({8}) == set()


def test_a_process_that_gets_no_processor_has_waited():
    code = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        wait_until(lambda: all(process_times.waited(each.pid) > 0.2 for each in busy))
    finally:
        for each in busy:
            each.kill()
            each.wait()


def test_every_program_with_heartbeats_is_checked_for_hangs_except_the_simulators():
    watched = {row.name for row in topology.PROGRAMS if row.hang_check}
    senders = {"api", "meta", "meta-worker", "events", "wwebjs", "wwebjs-session", "legacy"}
    assert watched == senders | {"alerts", "dashboard"}
    assert watched == {row.name for row in topology.PROGRAMS if row.probe in ("http", "heartbeat")} - {"sandbox"}
