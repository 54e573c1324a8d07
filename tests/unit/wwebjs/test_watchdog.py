"""The clock of a session, and the watchdog over the thread that owns its browser."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.wwebjs.browser.session_clock import SLOWEST_RATE, SessionClock, rate
from services.connectors.wwebjs.session.watchdog import Progress, Watchdog
from tests.support.waiting import HANG_SECONDS

SECONDS = st.floats(0, 1000)


@given(SECONDS, st.floats(-1, 1e6))
def test_the_rate_of_the_clock_stays_within_its_limits(elapsed, waited):
    assert SLOWEST_RATE <= rate(elapsed, waited) <= 1.0


@given(st.lists(st.tuples(SECONDS, SECONDS, st.booleans()), max_size=30))
def test_the_clock_never_goes_back_and_is_never_faster_than_the_wall(ticks):
    wall = [0.0]
    clock = SessionClock(lambda: wall[0])
    before = clock.now()
    for elapsed, waited, ticked in ticks:
        wall[0] += elapsed
        if ticked:
            clock.advance(waited)
        now = clock.now()
        assert before <= now <= wall[0] + 1e-6
        assert 1.0 <= clock.stretched(1.0) <= 1 / SLOWEST_RATE
        before = now


def test_a_wait_for_the_processor_slows_the_clock_and_stretches_deadlines():
    wall = [0.0]
    clock = SessionClock(lambda: wall[0])
    for _ in range(80):
        wall[0] += 1.0
        clock.advance(0.97)
    assert clock.now() < 13
    assert clock.stretched(5.0) == 40.0
    wall[0] += 1.0
    clock.advance(0.0)
    assert clock.stretched(5.0) == 5.0


class Guarded:
    """A watchdog over this thread, with a clock that a test turns; what it does is kept."""

    def __init__(self):
        self.wall, self.away = 0.0, False
        self.shown, self.ended = [], []
        self.progress = Progress(SessionClock(lambda: self.wall), margin=120.0)
        self.watchdog = Watchdog(self.progress, lambda: self.away, self.shown.append, self.ended.append)

    def passes(self, seconds):
        for _ in range(int(seconds)):
            self.wall += 1.0
            self.watchdog.look()


@pytest.fixture
def guarded():
    return Guarded()


def test_a_thread_that_moves_is_healthy(guarded):
    for _ in range(100):
        guarded.progress.begin("a turn")
        guarded.passes(30)
    assert set(guarded.shown) == {None}
    assert guarded.ended == []


def test_a_hung_thread_is_reported_and_then_ended_with_its_step(guarded):
    guarded.passes(100)
    assert guarded.shown[-1] == "its browser's thread has not moved for 100 s: starting"
    assert guarded.ended == []
    guarded.passes(20)
    assert guarded.ended == ["its browser's thread has not moved for 120 s: starting"]


def test_a_step_may_take_twice_its_own_deadline_and_the_margin(guarded):
    guarded.progress.begin("load", 60.0)
    guarded.passes(239)
    assert guarded.ended == []
    guarded.passes(1)
    assert guarded.ended


def test_a_wait_for_the_database_does_not_count_however_long_it_takes(guarded):
    guarded.away = True
    guarded.passes(10_000)
    guarded.away = False
    guarded.passes(119)
    assert guarded.ended == []
    guarded.passes(1)
    assert guarded.ended


def test_steps_of_other_threads_do_not_count(guarded):
    other = threading.Thread(target=guarded.progress.begin, args=("an event",))
    other.start()
    other.join(HANG_SECONDS)
    assert guarded.progress.step.name == "starting"


def test_a_thread_whose_process_ends_begins_nothing_more():
    """Otherwise it would publish the end of the browser, which the watchdog has killed, as the reason."""
    made, ready, proceed, begun = [], threading.Event(), threading.Event(), threading.Event()

    def work():
        made.append(Guarded())
        ready.set()
        proceed.wait(HANG_SECONDS)
        made[0].progress.begin("writing to the database")
        begun.set()

    threading.Thread(target=work, daemon=True).start()
    assert ready.wait(HANG_SECONDS)
    made[0].passes(120)
    assert made[0].ended
    proceed.set()
    assert not begun.wait(0.5)
    assert made[0].progress.step.name == "starting"
