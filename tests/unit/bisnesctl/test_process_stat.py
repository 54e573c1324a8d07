"""Facts about processes from /proc/<pid>/stat."""

import os
import subprocess
import sys

import pytest

from bisnesctl.host import process_stat
from bisnesctl.host.process_times import boottime
from tests.support.waiting import wait_until


def test_a_process_is_described() -> None:
    found = process_stat.read(os.getpid())
    assert found.parent == os.getppid()
    assert 0 < found.started_at < boottime()
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
