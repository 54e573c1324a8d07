"""Problems in a provider's report, and reading reports from answers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.bots.provider_queries import accounts_of, entity_id, read_health, read_number
from bisnesctl.bots.provider_report import Cause, Failure, Level, ProviderReport, expiry_date, problems, worst_level

NOW = 1_800_000_000.0
DAY = 86400
WELL = ProviderReport(
    name="Kedai Aina", quality="GREEN", status="CONNECTED", name_status="APPROVED", can_send="AVAILABLE",
    token_valid=True, token_expires_at=0, data_access_expires_at=0, subscribed=True,
    webhook_url="https://a.example/x", expected_url="https://a.example/x",
)  # fmt: skip


def codes(**changes):
    return [(each.level.value, each.code) for each in problems(replace(WELL, **changes), NOW)]


def test_a_good_report_has_no_problems():
    assert codes() == []
    assert worst_level([]) is Level.OK


def test_an_empty_report_has_no_problems():
    assert problems(ProviderReport(), NOW) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"can_send": "BLOCKED"}, [("error", "blocked")]),
        ({"can_send": "LIMITED"}, [("warning", "limited")]),
        ({"status": "DISCONNECTED"}, [("error", "not_connected")]),
        ({"status": "PENDING"}, [("warning", "not_connected")]),
        ({"status": "FLAGGED"}, [("warning", "quality")]),
        ({"quality": "RED"}, [("warning", "quality")]),
        ({"quality": "YELLOW"}, []),
        ({"name_status": "DECLINED"}, [("warning", "name")]),
        ({"token_valid": False}, [("error", "token_invalid")]),
        ({"token_expires_at": int(NOW + 15 * DAY)}, []),
        ({"token_expires_at": int(NOW + 13 * DAY)}, [("warning", "token_expires")]),
        ({"token_expires_at": int(NOW - 1)}, [("error", "token_expires")]),
        ({"data_access_expires_at": int(NOW + DAY)}, [("warning", "data_access_expires")]),
        ({"missing_scopes": ("whatsapp_business_messaging",)}, [("error", "scopes")]),
        ({"subscribed": False}, [("error", "no_webhooks")]),
        ({"webhook_url": "https://b.example/x"}, [("error", "webhook_elsewhere")]),
        ({"webhook_url": None}, []),
        ({"webhook_url": "https://b.example/x", "expected_url": None}, []),
        ({"can_send": "LIMITED", "subscribed": False}, [("error", "no_webhooks"), ("warning", "limited")]),
    ],
)
def test_problems_are_listed_worst_first(changes, expected):
    assert codes(**changes) == expected


def test_a_blocked_number_shows_what_its_provider_suggests():
    report = read_health(
        {
            "can_send_message": "BLOCKED",
            "entities": [
                {"entity_type": "WABA", "errors": [{"error_description": "No card", "possible_solution": "Add one"}]},
                {"entity_type": "APP", "additional_info": ["Something else"]},
            ],
        }
    )
    assert report.hints == ("No card: Add one", "Something else")
    assert "No card: Add one; Something else" in str(problems(report, NOW)[0])


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (Cause.CREDENTIAL, ("error", "invalid_token")),
        (Cause.REFUSED, ("error", "number_refused")),
        (Cause.UNAVAILABLE, ("warning", "unreachable")),
    ],
)
def test_a_failed_query_about_the_number_is_a_problem(cause, expected):
    report = ProviderReport(failures=(Failure("number", cause, "Meta says: no", "1"),))
    assert [(each.level.value, each.code) for each in problems(report, NOW)] == [expected]
    assert report.answered is (cause is not Cause.UNAVAILABLE)
    assert report.credential_refused is (cause is Cause.CREDENTIAL)


def test_a_refused_question_about_the_token_says_nothing_about_the_credential():
    report = replace(WELL, failures=(Failure("token", Cause.CREDENTIAL, "not the app's secret"),))
    assert [(each.level.value, each.code) for each in problems(report, NOW)] == [("warning", "token_unknown")]
    assert not report.credential_refused
    assert report.answered


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
NAMES = ["verified_name", "throughput", "health_status", "status", "level", "entities", "can_send_message", "errors"]
NAMES += ["additional_info", "possible_solution", "id", "entity_type", "granular_scopes", "scope", "target_ids"]
objects = st.dictionaries(st.sampled_from(NAMES), json | st.dictionaries(st.sampled_from(NAMES), json), max_size=8)


@given(objects)
def test_any_answer_of_a_provider_can_be_judged(found):
    report = read_number(found)
    assert worst_level(problems(report, NOW)) in Level
    assert entity_id(found, "WABA") is None or isinstance(entity_id(found, "WABA"), str)
    assert all(isinstance(each, str) for each in accounts_of(found))


@given(st.none() | st.integers(min_value=0))
def test_every_expiry_can_be_shown(moment):
    assert expiry_date(moment)
    if moment:
        problems(replace(WELL, token_expires_at=moment), NOW)


def test_an_expiry_is_shown_as_a_day():
    assert [expiry_date(None), expiry_date(0), expiry_date(1_800_000_000), expiry_date(10**18)] == [
        "-",
        "never",
        "2027-01-15",
        "never",
    ]
