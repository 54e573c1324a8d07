"""Work that is done at regular intervals."""

from services.runtime.interval import Interval


def test_an_interval_is_over_after_its_seconds_until_it_begins_again():
    now = [100.0]
    interval = Interval(30, clock=lambda: now[0])
    now[0] = 129.9
    assert not interval.is_over()
    now[0] = 130.0
    assert interval.is_over()
    assert interval.is_over()
    interval.restart()
    assert not interval.is_over()
    now[0] = 160.0
    assert interval.is_over()
