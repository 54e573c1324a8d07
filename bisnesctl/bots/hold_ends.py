"""The holds of numbers: the codes of their causes, and what ends each of them.

A test compares the codes with those that the connectors use, so that no hold lacks an end.
"""

from dataclasses import dataclass

_NEW_CREDENTIAL = "bisnesctl bots add --company {company} --phone {phone} --token-stdin"
_VERIFY = "bisnesctl bots verify"
_CHECK = "a check that finds the number well"


@dataclass(frozen=True, slots=True)
class HoldEnd:
    """The end of the holds of a cause."""

    cause: str
    codes: tuple[str, ...]  # `bot_pace.hold_code`
    by_itself: str  # what ends it without an operator
    command: str  # what an operator types, with {company} and {phone}
    lifted_by_checks: bool = True


TABLE = (
    HoldEnd("the access token or API key is refused", ("0", "102", "190", "467", "360dialog_401", "invalid_token"),
            _CHECK, _NEW_CREDENTIAL),
    HoldEnd("`ENCRYPTION_KEY` does not fit the stored credential", ("credential",),
            "a check, within a minute after a restart with the right key", _NEW_CREDENTIAL),
    HoldEnd("a permission is missing", ("3", "10", *map(str, range(200, 300)), "131005", "360dialog_403",
            "360dialog_404"), _CHECK, _NEW_CREDENTIAL),
    HoldEnd("the account is blocked or its messages are limited", ("368", "131031", "131048", "131064"),
            f"{_CHECK}, or a good update of Meta", _VERIFY),
    HoldEnd("billing", ("131042", "131044", "360dialog_400"), _CHECK, _VERIFY),
    HoldEnd("the display name is not approved", ("131037",), f"{_CHECK}, or Meta's approval of the name", _VERIFY),
    HoldEnd("the number is not registered, or the terms are not accepted", ("133010", "131045", "134011"),
            _CHECK, "bisnesctl bots add --company {company} --phone {phone} --pin-stdin"),
    HoldEnd("Meta has disabled or disconnected the account", tuple(f"account_update.{event}" for event in (
            "DISABLED_UPDATE", "ACCOUNT_DELETED", "ACCOUNT_OFFBOARDED", "PARTNER_REMOVED", "PARTNER_APP_UNINSTALLED",
            "PHONE_NUMBER_REMOVED", "ACCOUNT_RESTRICTION")),
            f"the end of a restriction, a good update of Meta (such as REINSTATE), or {_CHECK}, 10 minutes later at the"
            " earliest", _VERIFY),
    HoldEnd("held by a version that knew no causes", ("earlier",), _CHECK, _VERIFY),
    HoldEnd("a WhatsApp Web session cannot continue", ("logged_out", "wrong_number", "conflict", "banned"),
            "never: a phone must be linked", "bisnesctl bots unblock {company} {phone}", lifted_by_checks=False),
)  # fmt: skip

#: The end of each cause.
BY_CODE = {code: end for end in TABLE for code in end.codes}


def command_for(code: str | None, company: str = "COMPANY", phone: int | str = "PHONE") -> str:
    """The command that ends a hold with this code at once. None: the linking of the number is not finished."""
    if code is None:
        command = "bisnesctl bots add --company {company} --phone {phone} --phone-number-id ID"
    else:
        command = BY_CODE[code].command if code in BY_CODE else _VERIFY
    return command.format(company=company, phone=phone)
