"""What Meta's error codes mean for a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.meta.errors import TABLE, MetaError, classify, read_error
from services.delivery import Attempts, hold_of, settle
from services.message import Held, Outgoing, Rejected, Retry, Status

PATIENCE = Attempts(limit=3, base=1.0)


def message(attempts):
    return Outgoing(1, "0190c0de-0000-7000-8000-000000000000", 7, "60123456789", "text", {"message": "hi"}, attempts)


def life(code, attempts):
    """The status after the given number of earlier attempts, and the seconds until the next."""
    result = settle(message(attempts), classify(code, "said Meta"), PATIENCE, "")
    return result.status, result.after


def test_a_busy_pair_waits_longer_each_time_and_holds_nobody_else():
    assert [life(131056, made) for made in range(4)] == [(Status.QUEUED, wait) for wait in (1, 4, 16, 64)]
    assert life(131056, 4)[0] is Status.FAILED
    assert hold_of(message(0), classify(131056, "")) is None


@pytest.mark.parametrize(
    "code, low, high",
    [(130429, 1, 30), (131057, 60, 120), (4, 60, 900), (17, 60, 900), (613, 60, 900), (80007, 60, 900)],
)
def test_a_throttled_number_is_held_and_its_messages_are_kept(code, low, high):
    outcome = classify(code, "")
    hold = hold_of(message(0), outcome)
    assert low <= hold.after <= high
    assert str(code) in hold.reason
    assert life(code, 5)[0] is Status.QUEUED


@pytest.mark.parametrize("code, tries", [(1, 2), (131000, 3), (2, 3), (133004, 3), (131016, 3)])
def test_a_passing_trouble_is_tried_so_many_times(code, tries):
    assert [life(code, made)[0] for made in range(tries)] == [Status.QUEUED] * (tries - 1) + [Status.FAILED]


@pytest.mark.parametrize("code", [0, 190, 3, 10, 200, 299, 131005, 368, 131031, 131042, 131037, 133010, 131048])
def test_what_an_operator_must_settle_keeps_the_queue_and_says_what_to_do(code):
    outcome = classify(code, "Meta's words")
    assert isinstance(outcome, Held)
    assert outcome.code == str(code)
    assert outcome.reason.startswith("Meta's words; ")


@pytest.mark.parametrize("code", [100, 33, 131026, 131047, 131049, 131051, 130472, 132001, 137000, 135000])
def test_what_is_refused_for_good_fails_at_once(code):
    assert isinstance(classify(code, ""), Rejected)


@pytest.mark.parametrize("code", [130497, 132015, 132069])
def test_one_country_or_template_does_not_stop_the_number(code):
    assert isinstance(classify(code, ""), Rejected)


@pytest.mark.parametrize("code", sorted(TABLE))
def test_every_documented_code_has_an_outcome_with_words(code):
    outcome = classify(code, "")
    assert outcome.code == str(code)
    assert len(outcome.reason) > 5
    assert 400 <= TABLE[code].http < 600


@given(st.integers(), st.text(max_size=50))
def test_every_code_at_all_has_an_outcome(code, said):
    outcome = classify(code, said)
    assert isinstance(outcome, Retry | Rejected | Held)
    assert outcome.code == str(code)


def test_an_undocumented_code_is_tried_as_often_as_the_channel_says_and_holds_nobody():
    assert [life(999_999, made)[0] for made in range(3)] == [Status.QUEUED, Status.QUEUED, Status.FAILED]
    assert hold_of(message(0), classify(999_999, "")) is None


@pytest.mark.parametrize(
    "error, read",
    [
        ({"code": 100, "message": "bad", "error_data": {"details": "to"}}, MetaError(100, "bad: to")),
        ({"code": 100, "message": "bad", "error_data": "to"}, MetaError(100, "bad: to")),
        ({"code": "131047", "title": "late", "message": ""}, MetaError(131047, "late")),
        ({"code": 131026, "message": "same", "error_data": {"details": "same"}}, MetaError(131026, "same")),
        ({"code": 190}, MetaError(190, "the access token is not valid")),
        ({"code": None, "message": "x"}, None),
        ({"code": True}, None),
        ({"code": "9" * 5000}, None),
        ("Bad Gateway", None),
        (None, None),
    ],
)
def test_errors_are_read_in_every_form(error, read):
    assert read_error(error) == read
