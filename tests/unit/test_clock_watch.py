"""Whether the database's clock went back, whatever the time that its answers take."""

from hypothesis import given
from hypothesis import strategies as st

from services.sender import ClockWatch

SECONDS = st.floats(0, 1000)


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS), max_size=10), st.floats(-1e6, 1e6))
def test_a_clock_that_goes_on_is_not_suspected(looks, offset):
    watch, now = ClockWatch(), 0.0
    for pause, there, back in looks:
        asked = now + pause
        now = asked + there + back
        assert watch.looked(asked + there + offset, asked, now) < 1e-6


@given(SECONDS, SECONDS, SECONDS, st.floats(1, 1e6))
def test_a_clock_that_goes_back_is_told_with_no_more_than_it_went(pause, there, back, step):
    watch = ClockWatch()
    watch.looked(100.0, 99.0, 101.0)
    asked = 101.0 + pause
    went = watch.looked(asked + there - step, asked, asked + there + back)
    assert step - there - 1.0 - 1e-6 <= went <= step + 1e-6
