"""A provider's report on a phone number, and the problems in it. No provider is asked here."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

#: A token that expires within this many seconds is a problem.
EXPIRY_WARNING_SECONDS = 14 * 86400


class Level(StrEnum):
    """The severity of problems, mildest first."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Cause(StrEnum):
    """Why a query to a provider failed."""

    CREDENTIAL = "credential"  # the token or API key was not accepted
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"  # no statement about the number


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed query."""

    about: str  # number, token or webhooks
    cause: Cause
    reason: str
    code: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """A provider's report on a phone number; None or empty: unknown. Contains no secrets."""

    name: str | None = None
    display_number: str | None = None
    quality: str | None = None  # GREEN, YELLOW, RED, …
    status: str | None = None  # CONNECTED, …
    name_status: str | None = None  # APPROVED, …
    verification: str | None = None  # VERIFIED, …
    throughput: str | None = None  # STANDARD, HIGH, …
    limit: str | None = None  # users that the number may contact in 24 hours, such as TIER_1K
    can_send: str | None = None  # AVAILABLE, LIMITED or BLOCKED
    hints: tuple[str, ...] = ()  # why it is not AVAILABLE and what to do, in the provider's words
    token_valid: bool | None = None
    token_expires_at: int | None = None  # seconds since the epoch; 0: never
    data_access_expires_at: int | None = None  # seconds since the epoch; 0: never
    missing_scopes: tuple[str, ...] = ()
    subscribed: bool | None = None  # whether our app receives the account's webhooks
    webhook_url: str | None = None
    expected_url: str | None = None  # where webhooks should go
    phone_number_id: str | None = None  # from 360dialog, for the API key
    waba_id: str | None = None
    in_account: bool | None = None  # whether Meta says that the number belongs to the stored business account
    failures: tuple[Failure, ...] = ()

    @property
    def failure(self) -> Failure | None:
        """The failed query about the number itself."""
        return next((each for each in self.failures if each.about == "number"), None)

    @property
    def answered(self) -> bool:
        """Whether the provider made a statement about the number."""
        return self.failure is None or self.failure.cause is not Cause.UNAVAILABLE

    @property
    def credential_refused(self) -> bool:
        """Whether nothing can be sent without a new token or API key."""
        return self.failure is not None and self.failure.cause is Cause.CREDENTIAL


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem."""

    level: Level
    code: str  # stable, for scripts
    text: str
    next: str  # what to do

    def __str__(self) -> str:
        return f"{self.text}; {self.next}" if self.next else self.text


def problems(report: ProviderReport, now: float) -> list[Problem]:
    """All problems in a report, worst first. `now`: seconds since the epoch."""
    found = [*_failures(report), *_sending(report), *_standing(report), *_token(report, now), *_webhooks(report)]
    return sorted(found, key=lambda each: each.level is not Level.ERROR)


def worst_level(found: list[Problem]) -> Level:
    """The worst level of these problems."""
    return max((each.level for each in found), key=list(Level).index, default=Level.OK)


#: Problems that do not stop a number from sending.
_HARMLESS_FOR_SENDING = {"no_webhooks", "webhook_elsewhere", "data_access_expires"}


def can_send(report: ProviderReport, found: list[Problem]) -> bool:
    """Whether the provider says that the number can send. `found`: the problems in its report."""
    hindered = any(each.level is Level.ERROR and each.code not in _HARMLESS_FOR_SENDING for each in found)
    return report.answered and not hindered


def expiry_date(moment: int | None) -> str:
    """The expiry of a token as a day in UTC, or `never`, or `-` if it is unknown."""
    if moment is None:
        return "-"
    if moment == 0:
        return "never"
    try:
        return datetime.fromtimestamp(moment, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return "never"  # beyond the calendar


#: The command that replaces a credential.
NEW_CREDENTIAL_COMMAND = "`bisnesctl bots add … --token-stdin`"
_SET_WEBHOOK_COMMAND = "`bisnesctl bots add … --set-webhook`"
_CODES = {Cause.CREDENTIAL: "invalid_token", Cause.REFUSED: "number_refused", Cause.UNAVAILABLE: "unreachable"}


def _failures(report: ProviderReport) -> Iterator[Problem]:
    for each in report.failures:
        if each.about == "number":
            bad = Level.WARNING if each.cause is Cause.UNAVAILABLE else Level.ERROR
            yield Problem(bad, _CODES[each.cause], each.reason, each.advice)
        else:
            yield Problem(Level.WARNING, f"{each.about}_unknown", each.reason, each.advice)


def _sending(report: ProviderReport) -> Iterator[Problem]:
    advice = "; ".join(report.hints) or "see the number in WhatsApp Manager"
    if report.can_send == "BLOCKED":
        yield Problem(Level.ERROR, "blocked", "the number is blocked from sending (BLOCKED)", advice)
    elif report.can_send == "LIMITED":
        yield Problem(Level.WARNING, "limited", "the number's sending is limited (LIMITED)", advice)


#: States of a number (WhatsApp Business Phone Number, "status") in which it works.
_WORKING = {None, "CONNECTED", "FLAGGED", "RATE_LIMITED", "UNKNOWN"}
#: States in which it certainly does not work.
_NOT_WORKING = {"BANNED", "DELETED", "DISCONNECTED", "MIGRATED", "OFFLINE", "RESTRICTED"}
_NAME_REFUSED = {"DECLINED", "EXPIRED"}


def _standing(report: ProviderReport) -> Iterator[Problem]:
    if report.status not in _WORKING:
        advice = "register it with its PIN (`bisnesctl bots add … --pin-stdin`), or see WhatsApp Manager"
        bad = Level.ERROR if report.status in _NOT_WORKING else Level.WARNING
        yield Problem(bad, "not_connected", f"the number is {report.status}, not CONNECTED", advice)
    if report.status in ("FLAGGED", "RATE_LIMITED") or report.quality == "RED":
        advice = "stop bulk messages and see the quality in WhatsApp Manager"
        yield Problem(Level.WARNING, "quality", "recipients complain about messages from this number", advice)
    if report.name_status in _NAME_REFUSED:
        advice = "request another name in WhatsApp Manager"
        yield Problem(Level.WARNING, "name", f"the number's name is {report.name_status}", advice)


def _token(report: ProviderReport, now: float) -> Iterator[Problem]:
    if report.token_valid is False:
        yield Problem(
            Level.ERROR,
            "token_invalid",
            "the access token is no longer valid",
            f"enter a new one: {NEW_CREDENTIAL_COMMAND}",
        )
    else:
        ends = ("token_expires", "the access token", report.token_expires_at), (
            "data_access_expires", "the token's access to data", report.data_access_expires_at
        )  # fmt: skip
        for code, what, moment in ends:
            if moment and moment <= now + EXPIRY_WARNING_SECONDS:
                ended = moment <= now
                bad = Level.ERROR if ended else Level.WARNING
                text = f"{what} {'has expired' if ended else 'expires'} on {expiry_date(moment)}"
                yield Problem(bad, code, text, f"enter a new token: {NEW_CREDENTIAL_COMMAND}")
    if report.missing_scopes:
        lacking = " and ".join(report.missing_scopes)
        yield Problem(
            Level.ERROR,
            "scopes",
            f"the token lacks {lacking}",
            f"create a token with that permission and enter it: {NEW_CREDENTIAL_COMMAND}",
        )


def _webhooks(report: ProviderReport) -> Iterator[Problem]:
    if report.subscribed is False:
        yield Problem(
            Level.ERROR,
            "no_webhooks",
            "the provider sends no webhooks of this number",
            f"subscribe them: {_SET_WEBHOOK_COMMAND}",
        )
    elif report.webhook_url and report.expected_url and report.webhook_url != report.expected_url:
        text = f"webhooks go to {report.webhook_url}, not to {report.expected_url}"
        yield Problem(
            Level.ERROR, "webhook_elsewhere", text, f"check PUBLIC_URL, or redirect them: {_SET_WEBHOOK_COMMAND}"
        )
