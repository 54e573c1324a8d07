"""Locks on files: one process holds each, and its death releases it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bisnesctl.host import file_lock
from tests.support.waiting import HANG_SECONDS, wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_one_at_a_time_holds_it(path: Path) -> None:
    with file_lock.attempt(path) as first:
        assert (first, file_lock.is_held(path)) == (True, True)
        with file_lock.attempt(path) as second:
            assert not second
    assert not file_lock.is_held(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_error_within_is_not_taken_for_a_lock_that_is_held(path: Path) -> None:
    with pytest.raises(BlockingIOError), file_lock.attempt(path):
        raise BlockingIOError
    assert not file_lock.is_held(path)


def test_a_missing_file_is_held_by_nobody(path: Path) -> None:
    assert not file_lock.is_held(path)
    assert file_lock.holder(path) == ""


def test_the_holder_is_known_and_its_death_releases_the_lock(path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bisnesctl.host import file_lock\n"
        "descriptor = file_lock.open_file(Path(sys.argv[1])); assert file_lock.take(descriptor)\n"
        "file_lock.write_holder(descriptor, 'a longer name'); file_lock.write_holder(descriptor, 'the other')\n"
        f"time.sleep({HANG_SECONDS})"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as other:
        wait_until(lambda: file_lock.holder(path) == "the other")
        assert file_lock.is_held(path)
        descriptor, taken = file_lock.open_file(path), threading.Event()
        assert not file_lock.take(descriptor)

        def wait() -> None:
            file_lock.wait(descriptor)
            taken.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not taken.wait(0.2)
        other.kill()
        assert taken.wait(HANG_SECONDS)
        waiter.join(HANG_SECONDS)
        os.close(descriptor)
    assert not file_lock.is_held(path)
