"""Findings that many requests share."""

import threading

import pytest

from bisnesctl.people.store import PeopleStore
from services.dashboard import sources
from services.dashboard.sources import Sources
from services.database.connection import Database
from tests.support.moving_clock import MovingClock
from tests.support.waiting import HANG_SECONDS, wait_until


class Source:
    """Counts how often it was asked."""

    def __init__(self):
        self.count = 0
        self.error = None

    def find(self):
        self.count += 1
        if self.error:
            raise self.error
        return self.count


@pytest.fixture
def clock(monkeypatch):
    made = MovingClock()
    monkeypatch.setattr(sources, "time", made)
    return made


@pytest.fixture
def shared(tmp_path):
    return Sources(Database("host=nowhere"), PeopleStore(tmp_path))


def test_a_finding_is_shared_for_a_while(shared, clock):
    source = Source()
    assert [shared.shared("x", source.find), shared.shared("x", source.find)] == [1, 1]
    clock.now += sources.SHARED_SECONDS + sources.STALE_SECONDS
    assert shared.shared("x", source.find) == 2
    assert shared.shared("another", source.find) == 3


def test_a_finding_of_a_moment_ago_is_shown_while_a_thread_looks_again(shared, clock):
    source = Source()
    shared.shared("x", source.find)
    clock.now += sources.SHARED_SECONDS
    looks, ends = threading.Event(), threading.Event()

    def look():
        looks.set()
        assert ends.wait(HANG_SECONDS)
        return source.find()

    assert shared.shared("x", look) == 1
    assert looks.wait(HANG_SECONDS)
    assert [shared.shared("x", source.find) for _ in range(3)] == [1, 1, 1]
    ends.set()
    wait_until(lambda: shared.shared("x", source.find) == 2)
    assert source.count == 2


def test_a_finding_that_is_shared_for_long_is_shown_for_as_long_again(shared, clock):
    source = Source()
    shared.shared("x", source.find, seconds=60.0)
    clock.now += 119.0
    assert shared.shared("x", source.find, seconds=60.0) == 1
    wait_until(lambda: shared.shared("x", source.find, seconds=60.0) == 2)
    clock.now += 120.0
    assert shared.shared("x", source.find, seconds=60.0) == 3


def test_an_error_is_shared_but_not_for_long(shared, clock):
    source = Source()
    source.error = OSError("gone")
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            shared.shared("x", source.find, seconds=300.0)
    assert source.count == 1
    source.error = None
    clock.now += sources.SHARED_SECONDS
    assert shared.shared("x", source.find, seconds=300.0) == 2


def test_an_error_of_the_thread_replaces_what_was_found_before(shared, clock):
    source = Source()
    shared.shared("x", source.find)
    source.error = OSError("gone")
    clock.now += sources.SHARED_SECONDS
    assert shared.shared("x", source.find) == 1

    def is_raised():
        try:
            shared.shared("x", source.find)
        except OSError:
            return True
        return False

    wait_until(is_raised)


def test_a_finding_that_took_long_is_shared_longer(shared, clock):
    source = Source()

    def slow():
        clock.now += 1.0
        return source.find()

    shared.shared("x", slow)
    clock.now += sources.SHARED_FACTOR - 0.1
    assert shared.shared("x", slow) == 1
    assert source.count == 1


def test_many_who_wait_for_the_first_finding_share_it(shared):
    source, begin = Source(), threading.Event()

    def find():
        assert begin.wait(HANG_SECONDS)
        return source.find()

    found = []
    threads = [threading.Thread(target=lambda: found.append(shared.shared("x", find))) for _ in range(8)]
    for thread in threads:
        thread.start()
    begin.set()
    for thread in threads:
        thread.join(HANG_SECONDS)
    assert found == [1] * 8
