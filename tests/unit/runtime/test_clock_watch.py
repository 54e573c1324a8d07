"""A change of the database's clock is noticed, however long its answers take."""

from hypothesis import given
from hypothesis import strategies as st

from services.database.clock import ClockWatch

SECONDS = st.floats(0, 1000)


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS), max_size=10), st.floats(-1e6, 1e6))
def test_a_clock_that_runs_normally_is_not_reported(looks, offset):
    watch, now = ClockWatch(), 0.0
    for pause, there, back in looks:
        asked = now + pause
        now = asked + there + back
        assert watch.set_forward(asked + there + offset, asked, now) < 1e-6


@given(SECONDS, SECONDS, SECONDS, st.floats(1, 1e6))
def test_a_clock_that_is_set_forward_is_reported_with_at_most_the_true_difference(pause, there, back, step):
    watch = ClockWatch()
    watch.set_forward(100.0, 99.0, 101.0)
    asked = 101.0 + pause
    forth = watch.set_forward(asked + there + step, asked, asked + there + back)
    assert step - back - 1.0 - 1e-6 <= forth <= step + 1e-6


@given(st.floats(1, 1e6))
def test_a_clock_that_is_set_back_is_not_reported_as_set_forward(step):
    watch = ClockWatch()
    watch.set_forward(100.0, 100.0, 100.0)
    assert watch.set_forward(101.0 - step, 101.0, 101.0) == 0.0
