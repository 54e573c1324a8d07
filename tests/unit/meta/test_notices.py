"""The meaning of Meta's updates of accounts and numbers: each is read whole, and unknown words hold nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.bots import hold_ends
from services.connectors.meta.translation import errors, notices
from services.connectors.wwebjs.session.session import BLOCK_KINDS
from services.message import Held, Holding, Lifting, Severity

LATER = 2_000_000_000  # seconds since the epoch


def account(event, **more):
    return notices.notice("account_update", None, "W1", {"event": event, **more})


def ban(state):
    return account("DISABLED_UPDATE", ban_info={"waba_ban_state": state, "waba_ban_date": "April 17, 2025"})


def restriction(kind, expiration=None):
    return {"restriction_type": kind} | ({} if expiration is None else {"expiration": expiration})


@pytest.mark.parametrize(
    "notice",
    [
        ban("DISABLE"), ban(["DISABLE"]), account("DISABLED_UPDATE"), account("ACCOUNT_DELETED"),
        account("ACCOUNT_OFFBOARDED"), account("PARTNER_REMOVED"), account("PARTNER_APP_UNINSTALLED"),
        account("PHONE_NUMBER_REMOVED", phone_number="15550783881"),
    ],
)  # fmt: skip
def test_an_account_that_cannot_be_used_holds_its_numbers(notice):
    assert isinstance(notice.effect, Holding)
    assert notice.effect.until is None
    assert notice.severity is Severity.ERROR


@pytest.mark.parametrize(
    "notice",
    [
        ban("REINSTATE"), ban("reinstate"), account("ACCOUNT_RECONNECTED"), account("ACCOUNT_RESTORED"),
        account("PARTNER_ADDED"), account("PARTNER_APP_INSTALLED"),
        notices.notice("account_review_update", None, "W1", {"decision": "APPROVED"}),
    ],
)  # fmt: skip
def test_good_news_ends_holds(notice):
    assert notice.effect == Lifting()
    assert notice.severity is Severity.INFO


@pytest.mark.parametrize(
    "notice",
    [
        ban("SCHEDULE_FOR_DISABLE"), ban("SOMETHING_NEW"), ban(7),
        account("ACCOUNT_VIOLATION", violation_info={"violation_type": "SCAM"}), account("SOMETHING_NEW"),
        account("ACCOUNT_RESTRICTION", restriction_info=[restriction("RESTRICTED_SOMETHING_NEW", LATER)]),
        account("ACCOUNT_RESTRICTION", restriction_info=[restriction("RESTRICTED_ADD_PHONE_NUMBER_ACTION", LATER)]),
        notices.notice("phone_number_quality_update", None, "W1", {"event": "FLAGGED"}),
        notices.notice("phone_number_name_update", None, "W1", {"decision": "REJECTED"}),
        notices.notice("account_review_update", None, "W1", {"decision": "REJECTED"}),
        notices.notice("account_alerts", None, "W1", {"alert_severity": "CRITICAL"}),
    ],
)  # fmt: skip
def test_a_warning_holds_nothing(notice):
    assert (notice.effect, notice.severity) == (None, Severity.WARNING)


@pytest.mark.parametrize("field", ["business_capability_update", "user_preferences"])
def test_plain_information_holds_nothing(field):
    notice = notices.notice(field, None, "W1", {"max_daily_conversation_per_phone": 1000})
    assert (notice.effect, notice.severity) == (None, Severity.INFO)


@pytest.mark.parametrize("expiration", [LATER, str(LATER), LATER * 1000, float(LATER)])
def test_a_restriction_of_messages_holds_until_it_expires(expiration):
    found = [
        restriction("RESTRICTED_BIZ_INITIATED_MESSAGING", expiration),
        restriction("RESTRICTED_CUSTOMER_INITIATED_MESSAGING", LATER - 100),
        restriction("RESTRICTED_BUSINESS_INITIATED_CALLING", LATER + 100),
    ]
    effect = account("ACCOUNT_RESTRICTION", restriction_info=found).effect
    assert effect.code == "account_update.ACCOUNT_RESTRICTION"
    assert effect.until == LATER


def test_a_restriction_without_a_readable_end_holds_until_it_is_lifted():
    found = [restriction("RESTRICTED_BIZ_INITIATED_MESSAGING", "soon"), restriction("RESTRICTED_UTILITY_TEMPLATES")]
    assert account("ACCOUNT_VIOLATION", restriction_info=found).effect.until is None


def test_the_account_of_a_partner_update_is_the_one_in_its_value():
    notice = notices.notice("account_update", None, "2949482758682047",
                            {"event": "PARTNER_REMOVED", "waba_info": {"waba_id": "102290129340398"}})  # fmt: skip
    assert notice.account == "102290129340398"


def test_an_update_of_one_number_names_it_by_its_digits():
    said = {"display_phone_number": "+1 555-078-3881", "event": "UNFLAGGED"}
    notice = notices.notice("phone_number_quality_update", None, "W1", said)
    assert notice.phone == "15550783881"
    assert notice.effect == Lifting(("131048", "131064"))
    assert account("DISABLED_UPDATE", phone_number="15550783881").phone is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["event", "ban_info", "waba_ban_state", "restriction_info", "restriction_type", "expiration",
                         "waba_info", "waba_id", "decision", "phone_number"]), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(
    st.sampled_from(["account_update", "account_review_update", "phone_number_name_update", "new"]),
    st.dictionaries(st.text(max_size=3) | st.sampled_from(["event", "ban_info", "restriction_info"]), ANYTHING),
)
def test_any_update_can_be_read(field, value):
    assert notices.notice(field, None, None, value).value == value


def test_every_hold_in_the_code_has_an_end():
    refusals: list[object] = [errors.classify(code, "") for code in errors.TABLE]
    answers = [b'{"meta": {"httpCode": %d, "developerMessage": "payment due"}}' % status for status in (400, 401, 403)]
    refusals += [errors.refusal(200, each) for each in answers]
    codes = {each.code for each in refusals if isinstance(each, Held)}
    codes |= {*notices.CODES, *BLOCK_KINDS, "credential", "invalid_token", "earlier", "360dialog_404"}
    assert codes == set(hold_ends.BY_CODE)
    assert len(hold_ends.BY_CODE) == sum(len(end.codes) for end in hold_ends.TABLE)
