"""The meaning of Meta's error codes for a message."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.meta.translation.errors import TABLE, MetaError, classify, read_error, refusal
from services.message import Held, Outgoing, Rejected, Retry, Scope, Status, Unavailable
from services.outbox.outcome_policy import Attempts, hold_of, settle

PATIENCE = Attempts(limit=3, first_seconds=1.0)


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
    ("code", "low", "high"),
    [(130429, 1, 30), (4, 60, 900), (17, 60, 900), (613, 60, 900), (80007, 60, 900)],
)
def test_a_throttled_number_is_held_and_no_attempt_of_its_messages_is_counted(code, low, high):
    outcome = classify(code, "")
    hold = hold_of(message(0), outcome)
    assert low <= hold.after <= high
    assert str(code) in hold.reason
    assert life(code, 500) == (None, hold.after)


@pytest.mark.parametrize("code", [130497, 132015, 132069])
def test_one_country_or_template_does_not_stop_the_number(code):
    assert isinstance(classify(code, ""), Rejected)


def waits(outcome):
    """The seconds before each further attempt, as far as the table says them."""
    return [outcome.after * outcome.growth**n for n in range(outcome.attempts - 1)]


#: The documented codes (Cloud API, "Error codes") and other codes that Meta sends. First, the faults of Meta itself,
#: with the attempts after which the message counts as the cause.
METAS_OWN = {1: 2, 2: None, 131000: 3, 131016: None, 133004: None}
NUMBERS_WAIT = {130429: 5}
ACCOUNTS_WAIT = {4: 300, 17: 300, 32: 300, 341: 300, 613: 300, 80007: 300, 80008: 300}
UPGRADES = (131057, 2494100)
OPERATOR = [
    0, 3, 10, 102, *range(200, 300), 190, 368, 467, 131005, 131031, 131037, 131042, 131044, 131045, 131048, 131064,
    133010, 134011,
]  # fmt: skip
FINAL = [
    33, 100, 130403, 130472, 130497, 131008, 131009, 131020, 131021, 131026, 131030, 131041, 131047, 131049, 131050,
    131051, 131052, 131053, 131055, 131062, 131063, 132000, 132001, 132005, 132007, 132008, 132012, 132015, 132016,
    132018, 132068, 132069, 134100, 134101, 134102, 135000, 137000,
]  # fmt: skip


def test_the_table_has_every_documented_code_and_no_other():
    assert sorted(TABLE) == sorted([*METAS_OWN, *UPGRADES, *NUMBERS_WAIT, *ACCOUNTS_WAIT, 131056, *OPERATOR, *FINAL])


@pytest.mark.parametrize(("code", "attempts"), METAS_OWN.items())
def test_faults_of_meta_fail_the_message_after_some_attempts(code, attempts):
    assert classify(code, "no") == Unavailable(str(code), "no", chargeable=True, attempts=attempts)


def test_a_number_that_is_being_upgraded_waits_for_a_minute():
    assert classify(131057, "no") == Unavailable("131057", "no", after=60)


def test_a_pair_waits_1_4_16_and_64_seconds():
    outcome = classify(131056, "no")
    assert (outcome.scope, outcome.slower, waits(outcome)) == (Scope.CHAT, False, [1, 4, 16, 64])


@pytest.mark.parametrize(("code", "after"), NUMBERS_WAIT.items())
def test_a_number_that_sends_too_fast_is_held_and_slowed_down(code, after):
    outcome = classify(code, "no")
    assert (outcome.scope, outcome.after, outcome.slower) == (Scope.BOT, after, code == 130429)


@pytest.mark.parametrize(("code", "after"), ACCOUNTS_WAIT.items())
def test_an_account_waits_for_minutes(code, after):
    outcome = classify(code, "no")
    assert (outcome.scope, outcome.after, outcome.slower) == (Scope.ACCOUNT, after, False)


@pytest.mark.parametrize("code", OPERATOR)
def test_an_operator_is_told_what_to_do(code):
    outcome = classify(code, "no")
    assert (type(outcome), outcome.code) == (Held, str(code))
    assert outcome.reason.startswith("no; ")


@pytest.mark.parametrize("code", FINAL)
def test_permanent_errors_are_not_retried(code):
    assert isinstance(classify(code, "no"), Rejected)


@pytest.mark.parametrize("said", ["", "Re-engagement message"])
def test_outside_the_window_the_advice_is_a_template(said):
    assert classify(131047, said).reason.endswith("send a template instead")


@pytest.mark.parametrize("code", sorted(TABLE))
def test_every_documented_code_has_an_outcome_with_words(code):
    outcome = classify(code, "")
    assert outcome.code == str(code)
    assert len(outcome.reason) > 5


@given(st.integers(), st.text(max_size=50))
def test_every_code_at_all_has_an_outcome(code, said):
    outcome = classify(code, said)
    assert isinstance(outcome, Retry | Unavailable | Rejected | Held)
    assert outcome.code == str(code)


def test_an_undocumented_code_is_tried_as_often_as_the_channel_says_and_holds_nobody():
    assert [life(999_999, made)[0] for made in range(3)] == [Status.QUEUED, Status.QUEUED, Status.FAILED]
    assert hold_of(message(0), classify(999_999, "")) is None


@pytest.mark.parametrize(
    ("error", "read"),
    [
        ({"code": 100, "message": "bad", "error_data": {"details": "to"}}, MetaError(100, "bad: to")),
        ({"code": 100, "message": "bad", "error_data": "to"}, MetaError(100, "bad: to")),
        ({"code": "131047", "title": "late", "message": ""}, MetaError(131047, "late")),
        ({"code": 131026, "message": "same", "error_data": {"details": "same"}}, MetaError(131026, "same")),
        ({"code": 190}, MetaError(190, "the access token is not valid")),
        (
            {"code": 190, "message": "Malformed access token EAAtokentokentoken"},
            MetaError(190, "Malformed access token …"),
        ),
        ({"code": 190, "message": "Bad: EAAG0123456789abcdefgh."}, MetaError(190, "Bad: ….")),
        ({"code": None, "message": "x"}, None),
        ({"code": True}, None),
        ({"code": "9" * 5000}, None),
        ("Bad Gateway", None),
        (None, None),
    ],
)
def test_errors_are_read_in_every_form(error, read):
    assert read_error(error) == read


@pytest.mark.parametrize(
    ("status", "transient", "outcome"),
    [
        (400, False, Rejected), (403, False, Rejected), (404, False, Rejected), (400, True, Retry), (408, False, Retry),
        (429, False, Retry), (401, False, Held), (500, False, Unavailable), (503, False, Unavailable),
    ],
)  # fmt: skip
def test_an_undocumented_code_counts_by_its_http_status(status, transient, outcome):
    body = json.dumps({"error": {"message": "news", "code": 999_999, "is_transient": transient}}).encode()
    found = refusal(status, body)
    assert isinstance(found, outcome)
    assert found.code == "999999"
    assert "news" in found.reason


@pytest.mark.parametrize("code", [131020, 131041, 131063, 132008, 132018, 134101])
def test_codes_that_are_not_on_metas_page_are_refused_at_once(code):
    assert isinstance(classify(code, "no", 500), Rejected)
