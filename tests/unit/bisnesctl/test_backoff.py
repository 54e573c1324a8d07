from bisnesctl.backoff import Backoff

STEADY = Backoff(first_seconds=2, growth=4, longest_seconds=100)
JITTERED = Backoff(first_seconds=2, growth=4, longest_seconds=100, jitter=0.25)


def test_pauses_grow_up_to_the_longest():
    assert [STEADY.pause(attempt) for attempt in range(1, 6)] == [2, 8, 32, 100, 100]


def test_the_first_pause_also_follows_when_no_attempt_is_counted():
    assert STEADY.pause(0) == 2


def test_a_pause_after_very_many_attempts_is_the_longest():
    assert STEADY.pause(1_000_000) == 100


def test_jitter_shortens_a_pause_by_at_most_its_share():
    pauses = [JITTERED.pause(2) for _ in range(200)]
    assert all(6 <= pause <= 8 for pause in pauses)
    assert len(set(pauses)) > 1


def test_a_pause_with_jitter_never_exceeds_the_longest():
    assert all(75 <= JITTERED.pause(50) <= 100 for _ in range(200))
