"""The status of a message after each outcome of a send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.message import Held, Outgoing, Rejected, Retry, Scope, Sent, Status, Unknown
from services.outbox.outcome_policy import (
    LONGEST_BACKOFF_SECONDS,
    UNKNOWN_PAUSE_SECONDS,
    Attempts,
    Hold,
    hold_of,
    settle,
)

THREE = Attempts(limit=3, first_seconds=1.0)


def message(attempts: int = 0) -> Outgoing:
    return Outgoing(7, "0190c0de-0000-7000-8000-000000000000", 1, "60123456789", "text", {"message": "hi"}, attempts)


def test_sent_is_final_and_keeps_the_providers_id():
    result = settle(message(), Sent("wamid.1"), THREE, "h/w/1")
    assert (result.status, result.final, result.provider_id, result.claim) == (Status.SENT, True, "wamid.1", "h/w/1")


def test_unknown_is_final_so_that_it_is_never_sent_again():
    result = settle(message(), Unknown("reset"), THREE, "")
    assert (result.status, result.final, result.error) == (Status.UNKNOWN, True, "reset")
    assert result.after == UNKNOWN_PAUSE_SECONDS


def test_rejected_is_final_with_its_reason():
    result = settle(message(), Rejected("131026", "not on WhatsApp"), THREE, "")
    assert (result.status, result.final, result.code, result.error) == (
        Status.FAILED,
        True,
        "131026",
        "not on WhatsApp",
    )


def test_a_held_message_stays_queued_and_its_bot_waits_for_an_operator():
    outcome = Held("190", "token expired")
    result = settle(message(), outcome, THREE, "")
    assert (result.status, result.final) == (Status.WAITING, False)
    assert hold_of(message(), outcome) == Hold(1, Scope.BOT, None, "190: token expired", code="190")


@pytest.mark.parametrize(("made", "low", "high"), [(0, 0.75, 1.0), (1, 1.5, 2.0)])
def test_a_retry_waits_exponentially_longer(made, low, high):
    result = settle(message(made), Retry("131000", "try again"), THREE, "")
    assert (result.status, result.final) == (Status.QUEUED, False)
    assert low <= result.after <= high


def test_the_last_attempt_fails_and_says_so():
    result = settle(message(2), Retry("131000", "try again"), THREE, "")
    assert (result.status, result.final, result.error) == (Status.FAILED, True, "try again (gave up after 3 attempts)")


def test_a_providers_own_advice_wins():
    assert settle(message(), Retry("131057", "upgrade", after=60), THREE, "").after == 60
    assert settle(message(1), Retry("1", "ambiguous", attempts=2), THREE, "").status is Status.FAILED


@pytest.mark.parametrize(("made", "wait"), [(0, 1), (1, 4), (2, 16), (3, 64)])
def test_a_providers_wait_may_grow_with_the_attempts(made, wait):
    assert settle(message(made), Retry("131056", "pair", after=1, attempts=5, growth=4), THREE, "").after == wait


def test_only_a_retry_that_says_so_holds_the_bot():
    assert hold_of(message(), Retry("130429", "too fast", after=5, scope=Scope.BOT)) == Hold(
        1, Scope.BOT, 5, "130429: too fast"
    )
    assert hold_of(message(), Retry("131056", "pair", after=4)) is None
    assert hold_of(message(), None) is None


def test_no_attempt_leaves_the_message_as_it_is():
    result = settle(message(), None, THREE, "")
    assert (result.status, result.final) == (None, False)


@given(st.integers(1, 1000), st.floats(0.001, 100))
def test_backoff_is_bounded(made, base):
    assert 0 < Attempts(3, base).pause(made) <= LONGEST_BACKOFF_SECONDS
