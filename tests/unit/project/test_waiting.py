"""Patience in tests."""

import time

import pytest

from tests.support import waiting
from tests.support.waiting import Patience, processor_share, wait_until


class Clock:
    """Stands in for `time` and the share of the processor."""

    def __init__(self, monkeypatch, share):
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(waiting, "processor_share", lambda: share)


@pytest.mark.parametrize(("share", "lasts"), [(1.0, 10), (0.5, 20), (0.1, 100)])
def test_patience_lasts_longer_on_a_busy_machine(monkeypatch, share, lasts):
    clock = Clock(monkeypatch, share)
    patience = Patience(10.0)
    seconds = 0
    while not patience.is_over():
        clock.now += 1.0
        seconds += 1
    assert lasts <= seconds <= lasts + 2


def test_the_share_of_the_processor_is_a_part():
    assert 0 < processor_share() <= 1


def test_a_condition_that_never_holds_fails_with_its_explanation():
    with pytest.raises(AssertionError, match="still starting"):
        wait_until(lambda: False, 0.05, lambda: "still starting")


def test_the_value_of_the_condition_is_returned():
    assert wait_until(lambda: "ready") == "ready"
