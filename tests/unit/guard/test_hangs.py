"""When a process counts as hung."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.guard.hangs import Silences, can_beat, judge, silence
from bisnesctl.health.probes import Beat
from bisnesctl.host import process_times
from bisnesctl.processes import topology

SECONDS = st.floats(0, 1e6)


@given(SECONDS, st.floats(-10, 1e6))
def test_a_silence_is_never_longer_than_it_is_and_never_forgotten(since, waited):
    assert 0.1 * since - 1e-6 <= judge(since, waited) <= since
    assert judge(since, 0.0) == since


def test_the_beat_of_a_predecessor_is_not_counted_against_a_process():
    old = Beat(1, "healthy", "", 1e6)
    assert silence(os.getpid(), old) <= process_times.uptime(os.getpid())


def test_a_beat_since_the_start_counts_by_its_age():
    assert silence(os.getpid(), Beat(os.getpid(), "healthy", "", 0.01, 1e9)) == pytest.approx(0.01)


def test_a_process_that_is_gone_is_not_judged():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(60)
    with pytest.raises(OSError):
        silence(gone.pid, None)


def test_nobody_is_silent_where_nobody_can_write_a_heartbeat(tmp_path):
    assert can_beat(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not can_beat(tmp_path / "gone")
    assert not can_beat(Path("/dev/full"))


def test_a_process_hangs_after_so_many_looks_in_a_row():
    seen = Silences(looks=3)
    assert [seen.see({7}), seen.see({7, 8}), seen.see({7, 8})] == [set(), set(), {7}]
    assert seen.see(set()) == set()
    assert seen.see({8}) == set()


def test_a_process_that_gets_no_processor_has_waited():
    stop = time.monotonic() + 60
    code = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        while not all(process_times.waited(each.pid) > 0.2 for each in busy):
            assert time.monotonic() < stop
            time.sleep(0.1)
    finally:
        for each in busy:
            each.kill()
            each.wait()


def test_whatever_gives_heartbeats_is_watched_but_the_simulators():
    watched = {row.name for row in topology.PROGRAMS if row.hang_check}
    assert watched == {"api", "meta", "meta-worker", "events", "wwebjs", "wwebjs-session", "legacy"}
    assert watched == {row.name for row in topology.PROGRAMS if row.probe in ("http", "heartbeat")} - {"sandbox"}
