"""Which starts of a WhatsApp Web number count as failed."""

from hypothesis import given
from hypothesis import strategies as st

from services.connectors.wwebjs.states.failed_starts import MAX_FAILED_STARTS, StartEvent, count, is_blocked

EVENTS = st.lists(st.sampled_from(StartEvent), max_size=30)
STATES = st.sampled_from(["STOPPED", "STARTING", "SCAN_QR_CODE", "WORKING", "FAILED"])


def counted(events):
    failed = 0
    for event in events:
        failed = count(failed, event)
    return failed


@given(EVENTS)
def test_the_count_is_the_failures_since_it_last_came_up_or_was_forgiven(events):
    last = max((i for i, each in enumerate(events) if each in (StartEvent.CAME_UP, StartEvent.FORGIVEN)), default=-1)
    assert counted(events) == events[last + 1 :].count(StartEvent.FAILED)


@given(EVENTS)
def test_begun_and_interrupted_starts_do_not_change_the_count(events):
    neutral = (StartEvent.BEGUN, StartEvent.INTERRUPTED)
    assert counted(events) == counted([each for each in events if each not in neutral])


@given(EVENTS, STATES)
def test_a_block_needs_as_many_failures_as_it_says_and_none_is_decided_while_a_start_is_under_way(events, state):
    if is_blocked(counted(events), state):
        assert events.count(StartEvent.FAILED) >= MAX_FAILED_STARTS
        assert state == "FAILED"
    assert is_blocked(MAX_FAILED_STARTS, "FAILED")
