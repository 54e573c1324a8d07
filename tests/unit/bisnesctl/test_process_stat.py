"""Facts about processes from /proc/<pid>/stat."""

import os
import subprocess
import sys
import threading
import time

import pytest

from bisnesctl.host import process_stat
from bisnesctl.host.process_times import boottime
from tests.support.waiting import HANG_SECONDS, wait_until


def test_a_process_is_described() -> None:
    found = process_stat.read(os.getpid())
    assert found.parent == os.getppid()
    assert 0 < found.started_at < boottime()
    assert found.processor_seconds == pytest.approx(time.process_time(), abs=1.0)
    assert found.resident_bytes > 1 << 20


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: process_stat.read(child.pid).state == "Z")
    assert not process_stat.is_alive(child.pid)
    child.wait()
    assert not process_stat.is_alive(child.pid)
    with pytest.raises(FileNotFoundError):
        process_stat.read(child.pid)


def test_the_ancestors_of_a_process_begin_with_itself_and_its_parent() -> None:
    assert list(process_stat.ancestors(os.getpid()))[:2] == [os.getpid(), os.getppid()]


def test_the_end_of_a_process_ends_the_wait_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        threading.Timer(0.2, child.kill).start()
        process_stat.wait_for_an_end([child.pid], HANG_SECONDS)
        assert not process_stat.is_alive(child.pid)
    process_stat.wait_for_an_end([child.pid], 0.01)  # it is gone
