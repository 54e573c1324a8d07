"""The meaning of Meta's updates of accounts and numbers: whether they hold a number, end a hold, or only inform.

An update is read as a whole, because its name alone does not say whether it is good or bad: DISABLED_UPDATE reports a
ban, its announcement, and its end. Unknown words hold nothing (Webhooks reference, `account_update`).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from services.connectors.untrusted_json import field, name_of, objects
from services.message import Holding, Lifting, Notice, NoticeEffect, Severity

Object = dict[str, Any]
_Meaning = tuple[Severity, NoticeEffect | None]

#: The customer's events by the webhook's field; every field that is not here becomes `provider.update`.
_EVENTS = {
    "message_template_status_update": "template.status",
    "message_template_quality_update": "template.status",
    "message_template_components_update": "template.status",
    "template_category_update": "template.status",
    "account_update": "account.update",
    "account_review_update": "account.update",
    "phone_number_quality_update": "number.quality",
    "phone_number_name_update": "number.quality",
    "business_capability_update": "account.capability",
    "account_alerts": "account.alert",
    "user_preferences": "user.preferences",
}

#: Updates that hold the account's numbers, with the advice.
_HOLDING = {
    "ACCOUNT_DELETED": "the business account was deleted: link the number with another account (`bisnesctl bots add`)",
    "ACCOUNT_OFFBOARDED": "the account was disconnected because its phone changed: wait, or link it again",
    "PARTNER_REMOVED": "the business has withdrawn the account from us: it must share it again",
    "PARTNER_APP_UNINSTALLED": "the business has removed our app: it must grant access again",
    "PHONE_NUMBER_REMOVED": "the number was removed from the account: add it in WhatsApp Manager",
}
#: Updates that end holds.
_GOOD = {
    "ACCOUNT_RECONNECTED",
    "ACCOUNT_REINSTATED",
    "ACCOUNT_RESTORED",
    "PARTNER_ADDED",
    "PARTNER_APP_INSTALLED",
    "VERIFIED_ACCOUNT",
}
#: Updates that say nothing about sending.
_NEUTRAL = {
    "AD_ACCOUNT_LINKED",
    "AUTH_INTL_PRICE_ELIGIBILITY_UPDATE",
    "BUSINESS_PRIMARY_LOCATION_COUNTRY_UPDATE",
    "MM_LITE_TERMS_SIGNED",
    "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE",
    "VOLUME_BASED_PRICING_TIER_UPDATE",
}
#: The codes of the holds that these updates cause.
CODES = tuple(f"account_update.{event}" for event in (*_HOLDING, "DISABLED_UPDATE", "ACCOUNT_RESTRICTION"))
#: Restrictions that concern messages; the others concern calls, new numbers and new templates.
_MESSAGING_RESTRICTIONS = {
    "RESTRICTED_BIZ_INITIATED_MESSAGING": "it may not begin conversations",
    "RESTRICTED_CUSTOMER_INITIATED_MESSAGING": "it may not answer customers",
}
#: The error codes of holds that an approved display name ends.
_NAME_CODES = ("131037",)
#: The error codes of holds that end when recipients no longer complain.
_QUALITY_CODES = ("131048", "131064")

#: The fields whose updates are about one number of the account, and such updates of the account.
_NUMBER_FIELDS = {"phone_number_quality_update", "phone_number_name_update"}
_NUMBER_EVENTS = {"PHONE_NUMBER_REMOVED", "VERIFIED_ACCOUNT"}
#: A moment at or above this is in milliseconds.
_FIRST_MILLISECONDS = 1e11
_NOT_DIGITS = re.compile(r"[^0-9]", re.ASCII)
_PHONE_FIELDS = ("display_phone_number", "phone_number")


def notice(name: str, number: str | None, account: str | None, value: Object, for_operators: bool = True) -> Notice:
    """The notice of an update. `name`: its field; `account`: the id of its entry.

    The entry of a PARTNER_… update has the id of the business portfolio; the account is named in the value.
    """
    severity, effect = _MEANINGS.get(name, _unknown)(value)
    named = name_of(value, "waba_info", "waba_id") or account
    return Notice(
        _EVENTS.get(name, "provider.update"), name, number, named, value, for_operators,
        phone=_phone(value) if _is_of_one_number(name, value) else None, severity=severity, effect=effect,
    )  # fmt: skip


def _is_of_one_number(name: str, value: Object) -> bool:
    return name in _NUMBER_FIELDS or (name == "account_update" and _word(value, "event") in _NUMBER_EVENTS)


def _phone(value: Object) -> str | None:
    """Digits of the phone number that the update is about; Meta names it as people write it."""
    texts = (name_of(value, name) for name in _PHONE_FIELDS)
    return next((digits for text in texts if text and (digits := _NOT_DIGITS.sub("", text))), None)


def _word(value: Object, *names: str) -> str:
    return (name_of(value, *names) or "").upper()


def _unknown(_: Object) -> _Meaning:
    return Severity.WARNING, None


def _neutral(_: Object) -> _Meaning:
    return Severity.INFO, None


# --- account_update ---------------------------------------------------------------------------------------------------


def _account(value: Object) -> _Meaning:
    event = _word(value, "event")
    if event == "DISABLED_UPDATE":
        return _ban(value)
    if restricted := _restriction(value):
        return Severity.ERROR, restricted
    if event in _HOLDING:
        return Severity.ERROR, _hold(event, _HOLDING[event])
    if event in _GOOD:
        return Severity.INFO, Lifting()
    return (Severity.INFO if event in _NEUTRAL else Severity.WARNING), None


def _ban(value: Object) -> _Meaning:
    """A ban, the announcement of one (a warning), or its end. Without a state it is a ban."""
    stated = field(value, "ban_info", "waba_ban_state")
    states = {str(each).upper() for each in (stated if isinstance(stated, list) else [stated]) if each}
    if "REINSTATE" in states:
        return Severity.INFO, Lifting()
    if not states or states & {"DISABLE", "DISABLED"}:
        advice = "the business account is disabled: appeal in WhatsApp Manager; the hold ends when Meta reinstates it"
        return Severity.ERROR, _hold("DISABLED_UPDATE", advice)
    return Severity.WARNING, None


def _restriction(value: Object) -> Holding | None:
    """The hold of an account whose messages are restricted, until the last of those restrictions expires."""
    stated = value.get("restriction_info")
    found = [stated] if isinstance(stated, dict) else objects(value, "restriction_info")
    kinds = {_word(each, "restriction_type"): each for each in found}
    restricted = [kind for kind in kinds if kind in _MESSAGING_RESTRICTIONS]
    if not restricted:
        return None
    ends = [_moment(kinds[kind].get("expiration")) for kind in restricted]
    until = None if None in ends else max(filter(None, ends))
    words = " and ".join(_MESSAGING_RESTRICTIONS[kind] for kind in restricted)
    end = f"until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC" if until else "until Meta lifts it"
    return _hold("ACCOUNT_RESTRICTION", f"the account is restricted {end} ({words})", until)


def _moment(value: Any) -> float | None:
    """Seconds since the epoch from a number, digits, or a time in ISO 8601; None if it is none of them."""
    try:
        if isinstance(value, str) and not value.isdigit():
            found = datetime.fromisoformat(value)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        moment = float(value)
        return datetime.fromtimestamp(moment / 1000 if moment >= _FIRST_MILLISECONDS else moment, UTC).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _hold(event: str, advice: str, until: float | None = None) -> Holding:
    return Holding(f"account_update.{event}", f"Meta reports {event}: {advice}; see WhatsApp Manager", until)


# --- Other fields -----------------------------------------------------------------------------------------------------


def _by_word(path: str, good: dict[str, Lifting], neutral: set[str]) -> Callable[[Object], _Meaning]:
    def meaning(value: Object) -> _Meaning:
        word = _word(value, path)
        if word in good:
            return Severity.INFO, good[word]
        return (Severity.INFO if word in neutral else Severity.WARNING), None

    return meaning


_MEANINGS: dict[str, Callable[[Object], _Meaning]] = {
    "account_update": _account,
    "account_review_update": _by_word("decision", {"APPROVED": Lifting()}, {"PENDING", "DEFERRED"}),
    "phone_number_name_update": _by_word("decision", {"APPROVED": Lifting(_NAME_CODES)}, {"PENDING", "DEFERRED"}),
    "phone_number_quality_update": _by_word(
        "event", {"UNFLAGGED": Lifting(_QUALITY_CODES), "UPGRADE": Lifting(_QUALITY_CODES)},
        {"ONBOARDING", "THROUGHPUT_UPGRADE"},
    ),
    "business_capability_update": _neutral,
    "account_alerts": _by_word("alert_severity", {}, {"INFORMATIONAL", "INFO"}),
    "message_template_status_update": _by_word("event", {}, {"APPROVED", "PENDING", "REINSTATED", "PENDING_DELETION"}),
    "message_template_components_update": _neutral,
    "user_preferences": _neutral,
}  # fmt: skip
