"""Whose fault it is that a message did not leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.message import Held, Outgoing, Rejected, Retry, Scope, Sent, Status, Unavailable, Unknown
from services.outbox.outcome_policy import (
    CHAT_REFUSALS,
    RECENT_SECONDS,
    Answer,
    Attempts,
    Fault,
    OutagePolicy,
    Pauses,
    Postponed,
    settle,
)

PAUSES = Pauses(first=1.0, longest=60.0)
AWAY = Unavailable("network", "connection refused")
BUSY = Unavailable("131000", "something went wrong", chargeable=True, attempts=3)
THREE = Attempts(limit=3, first_seconds=1.0)


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def policy(clock):
    return OutagePolicy(PAUSES, clock)


def message(number=1, outage=None, bot=7):
    return Outgoing(number, f"uuid-{number}", bot, "60123", "text", {"message": "hi"}, 0, outage=outage)


def test_a_message_that_could_not_reach_its_provider_waits_uncounted_and_its_number_is_held(policy):
    outcome, finding = policy.judge(message(), AWAY)
    assert finding == Fault(7, "network", "connection refused", probe=False)
    assert isinstance(outcome, Postponed)
    result = settle(message(), outcome, THREE, "w")
    assert (result.status, result.final) == (None, False)


@given(st.integers(1, 200))
def test_failed_connections_are_never_charged_to_a_message(times):
    clock = Clock()
    policy = OutagePolicy(PAUSES, clock)
    for n in range(times):
        policy.judge(message(n + 1000), Sent("id"))
        clock.now += 1
        assert isinstance(policy.judge(message(), AWAY)[0], Postponed)


def test_refusals_are_charged_once_others_got_through_since_the_first(policy, clock):
    policy.judge(message(1), BUSY)
    clock.now += 5
    assert isinstance(policy.judge(message(1), BUSY)[0], Postponed)  # nobody got through
    clock.now += 1
    policy.judge(message(2), Sent("id"))
    clock.now += 5
    for _ in range(3):
        outcome, finding = policy.judge(message(1), BUSY)
        assert outcome == Retry("131000", "something went wrong", None, 3)
        assert finding is None
        clock.now += 5
    outcome, finding = policy.judge(message(3), BUSY)  # an outage has begun
    assert isinstance(outcome, Postponed)
    assert isinstance(finding, Fault)
    outcome, finding = policy.judge(message(1), BUSY)  # in which nobody is to blame
    assert isinstance(outcome, Postponed)
    assert isinstance(finding, Fault)


def test_other_numbers_that_get_through_prove_nothing(policy, clock):
    policy.judge(message(1), BUSY)
    clock.now += 1
    policy.judge(message(2, bot=8), Sent("id"))
    clock.now += 1
    outcome, finding = policy.judge(message(1), BUSY)
    assert isinstance(outcome, Postponed)
    assert isinstance(finding, Fault)


@pytest.mark.parametrize("outcome", [AWAY, BUSY, Unknown("reset", "no_answer"), Unknown("page", "http_502")])
def test_one_failure_among_successes_is_no_outage(policy, clock, outcome):
    policy.judge(message(1), Sent("id"))
    clock.now += RECENT_SECONDS / 2
    assert policy.judge(message(2), outcome)[1] is None
    clock.now += RECENT_SECONDS
    assert isinstance(policy.judge(message(3), outcome)[1], Fault)


def test_a_message_that_may_have_left_stays_unknown_and_holds_its_number(policy):
    for outcome in (Unknown("reset", "no_answer"), Unknown("a page of WhatsApp Web")):
        settled, finding = policy.judge(message(), outcome)
        assert settled == outcome
        assert (finding is not None) is bool(outcome.outage)


@pytest.mark.parametrize(("outcome", "sent"), [
    (Sent("id"), True), (Rejected("131026", "no"), False), (Held("190", "no"), False), (Retry("131056", "no"), False),
    (None, False),
])  # fmt: skip
def test_a_probing_attempt_reports_its_finding(policy, outcome, sent):
    assert policy.judge(message(outage="network"), outcome) == (outcome, Answer(7, sent))
    assert policy.judge(message(), outcome) == (outcome, None)


def test_an_outage_of_this_worker_is_over_with_any_message_that_gets_through(policy):
    policy.judge(message(1), AWAY)
    assert policy.judge(message(2), Sent("id"))[1] == Answer(7, True)
    assert policy.judge(message(3), Sent("id"))[1] is None


def test_a_refusal_for_a_chat_alone_holds_only_that_chat(policy, clock):
    lost = Unavailable("page", "lost", chargeable=True, scope=Scope.CHAT)
    waits = []
    for _ in range(9):
        outcome, finding = policy.judge(message(), lost)
        waits.append(outcome.after)
        assert finding is None
        clock.now += outcome.after
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_message_that_is_refused_for_its_chat_alone_fails_in_the_end(policy, clock):
    lost = Unavailable("page", "lost", chargeable=True, scope=Scope.CHAT)
    for _ in range(CHAT_REFUSALS):
        assert isinstance(policy.judge(message(), lost)[0], Postponed)
        clock.now += 60
    assert isinstance(policy.judge(message(), lost)[0], Retry)


def test_a_worker_leaves_a_number_that_it_cannot_reach_to_the_others_for_a_part_of_the_pauses(policy, clock):
    assert list(policy.left_to_others()) == []
    left = []
    for _ in range(10):
        policy.judge(message(outage="network"), AWAY)
        started = clock.now
        while list(policy.left_to_others()) == [7]:
            clock.now += 0.05
        left.append(clock.now - started)
    assert left == sorted(left)
    assert 0.2 < left[0] < 0.4
    assert left[-1] < PAUSES.longest / 3
    policy.judge(message(), Sent("id"))
    assert list(policy.left_to_others()) == []


class Life(RuleBasedStateMachine):
    """A number with a few messages, in any order of events: who is charged, and when the number is held."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.policy = OutagePolicy(PAUSES, self.clock)
        self.last_sent = float("-inf")
        self.refused = {}  # by message: when it was refused first and last
        self.since_sent = set()

    @rule(seconds=st.floats(0.01, 100))
    def time_passes(self, seconds):
        self.clock.now += seconds

    @rule(number=st.integers(100, 110))
    def one_gets_through(self, number):
        self.policy.judge(message(number), Sent("id"))
        self.last_sent = self.clock.now
        self.since_sent.clear()
        self.clock.now += 0.001

    @rule(number=st.integers(1, 4), probe=st.booleans(), outcome=st.sampled_from([AWAY, BUSY]))
    def one_is_refused(self, number, probe, outcome):
        settled, finding = self.policy.judge(message(number, "131000" if probe else None), outcome)
        first, last = self.refused.get(number, (float("inf"), float("inf")))
        alone = self.last_sent > last or self.since_sent == {number}
        own = outcome is BUSY and self.last_sent > first and alone
        assert isinstance(settled, Retry if own else Postponed)
        recent = self.clock.now - self.last_sent <= RECENT_SECONDS
        assert isinstance(finding, Fault) is (probe or not (recent or own))
        self.refused[number] = min(first, self.clock.now), self.clock.now
        self.since_sent.add(number)
        self.clock.now += 0.001

    @invariant()
    def nobody_is_left_alone_for_long(self):
        before, self.clock.now = self.clock.now, self.clock.now + PAUSES.longest
        assert list(self.policy.left_to_others()) == []
        self.clock.now = before


TestLife = Life.TestCase


def test_the_messages_own_attempts_are_limited_as_before():
    refused = Outgoing(1, "uuid", 7, "60123", "text", {}, attempts=2)
    assert settle(refused, Retry("131000", "no", None, 3), THREE, "w").status is Status.FAILED


@pytest.mark.parametrize(
    ("outcome", "judged"),
    [
        (Sent("id\0"), Unknown("it was sent, but the id that the provider gave it cannot be stored")),
        (Unknown("no\0 answer"), Unknown("no answer")),
        (Rejected("4\0", "\ud800" + "x" * 3000), Rejected("4", "?" + "x" * 1999)),
    ],
)
def test_a_judged_outcome_has_only_texts_that_can_be_stored(policy, outcome, judged):
    assert policy.judge(message(), outcome) == (judged, None)


def test_the_finding_about_an_outage_has_only_texts_that_can_be_stored(policy):
    _, finding = policy.judge(message(), Unavailable("net\0work", "refused\ud800"))
    assert isinstance(finding, Fault)
    assert (finding.code, finding.reason) == ("network", "refused?")
