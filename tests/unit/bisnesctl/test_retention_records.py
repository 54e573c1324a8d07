"""When the retention runs again, and its words."""

from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.retention.records import CONTINUE_SECONDS, RETRY_SECONDS, RUN_INTERVAL_SECONDS, LastRun


def last(tried: float | None, failed: bool = False, unfinished: bool = False) -> LastRun:
    return LastRun(0.0, tried, 1.0, {"metrics": 3}, {"metrics": "why"} if failed else {}, unfinished, "here")


def test_it_runs_at_once_if_it_never_ran_or_the_clock_was_set_back() -> None:
    assert last(None).is_due
    assert last(-1.0).is_due


@given(seconds=st.floats(0, 10 * RUN_INTERVAL_SECONDS), failed=st.booleans(), unfinished=st.booleans())
def test_it_runs_every_hour_and_sooner_after_a_failure_or_if_something_is_left(
    seconds: float, failed: bool, unfinished: bool
) -> None:
    pause = RETRY_SECONDS if failed else CONTINUE_SECONDS if unfinished else RUN_INTERVAL_SECONDS
    assert last(seconds, failed, unfinished).is_due == (seconds >= pause)


def test_the_summary_says_when_it_ran_what_it_removed_and_what_failed() -> None:
    assert last(None).summary == "it never ran"
    assert last(120.0).summary == "2m 0s ago it removed 3 metrics"
    assert last(120.0, failed=True).summary == "2m 0s ago it removed 3 metrics; it failed for metrics: why"
