"""The conditions under which the watchdog of an HTTP process reports a hang."""

from hypothesis import given
from hypothesis import strategies as st

from services.http_server.watchdog import (
    LOOK_INTERVAL_SECONDS,
    LOOP_STUCK_SECONDS,
    THREADS_STUCK_SECONDS,
    Stall,
    Watchdog,
)


class Loop:
    """A watchdog whose event loop is turned by hand."""

    def __init__(self):
        self.progress = {}
        self.watchdog = Watchdog(lambda: self.progress)

    def look(self, times, turns=True, elapsed=LOOK_INTERVAL_SECONDS):
        for _ in range(times):
            self.watchdog._turns += turns
            found = self.watchdog.look(elapsed)
        return found


def test_an_event_loop_that_does_not_turn_is_reported_as_stuck():
    loop = Loop()
    assert loop.look(1000) is None
    assert loop.look(int(LOOP_STUCK_SECONDS / LOOK_INTERVAL_SECONDS) - 1, turns=False) is None
    assert loop.look(1, turns=False) == "the event loop has not turned for 60 s"
    assert loop.look(1) is None


def test_a_process_that_was_suspended_is_not_stuck():
    assert Loop().look(5, turns=False, elapsed=10_000.0) is None


def test_requests_that_wait_while_none_is_done_are_noticed_for_each_caller():
    loop = Loop()
    looks = int(THREADS_STUCK_SECONDS / LOOK_INTERVAL_SECONDS) + 1
    for done in range(looks):
        loop.progress = {"a": 5, "b": done}
        found = loop.look(1)
    assert found.startswith(f"requests wait, and no thread has ended one for {looks * LOOK_INTERVAL_SECONDS:g} s")
    loop.progress = {"b": looks}
    assert loop.look(looks) is not None  # now b's do not end
    loop.progress = {}
    assert loop.look(1) is None


def test_the_progress_of_a_caller_restarts_after_its_queue_was_empty():
    loop = Loop()
    for number in range(900):
        loop.progress = {"a": 5} if number % int(THREADS_STUCK_SECONDS / LOOK_INTERVAL_SECONDS) else {}
        assert loop.look(1) is None


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 100)), min_size=1))
def test_a_stall_is_the_time_since_the_last_progress(looks):
    stall, last, seconds = Stall(0), 0, 0.0
    for progress, elapsed in looks:
        seconds = seconds + min(elapsed, 2 * LOOK_INTERVAL_SECONDS) if progress == last else 0.0
        last = progress
        assert stall.observe(progress, elapsed) == seconds
