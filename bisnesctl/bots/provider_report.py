"""What is wrong with a number, judged by what its provider says: no questions are asked here."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

#: Seconds before a token's end from which on it is a problem.
EXPIRY_WARNING_SECONDS = 14 * 86400


class Level(StrEnum):
    """How bad it is, the best first."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Cause(StrEnum):
    """Why a question to a provider has no answer."""

    CREDENTIAL = "credential"  # it does not accept the token or API key
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"  # it says nothing about the number


@dataclass(frozen=True, slots=True)
class Failure:
    """A question that has no answer."""

    about: str  # number, token or webhooks
    cause: Cause
    reason: str
    code: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider says of a number; None or empty: not known. Holds no secret."""

    name: str | None = None
    display_number: str | None = None
    quality: str | None = None  # GREEN, YELLOW, RED, …
    status: str | None = None  # CONNECTED, …
    name_status: str | None = None  # APPROVED, …
    verification: str | None = None  # VERIFIED, …
    throughput: str | None = None  # STANDARD, HIGH, …
    limit: str | None = None  # users that may be written to first in 24 hours, such as TIER_1K
    can_send: str | None = None  # AVAILABLE, LIMITED or BLOCKED
    hints: tuple[str, ...] = ()  # why it is not AVAILABLE, and what to do, in the provider's words
    token_valid: bool | None = None
    token_expires_at: int | None = None  # seconds since the epoch; 0: never
    data_access_expires_at: int | None = None  # the same
    missing_scopes: tuple[str, ...] = ()
    subscribed: bool | None = None  # whether our app gets the account's webhooks
    webhook_url: str | None = None
    expected_url: str | None = None  # where webhooks should go
    phone_number_id: str | None = None  # the ids that 360dialog tells for the API key
    waba_id: str | None = None
    in_account: bool | None = None  # whether the stored business account has the number, as Meta says
    failures: tuple[Failure, ...] = ()

    @property
    def failure(self) -> Failure | None:
        """Why the number itself is not known."""
        return next((each for each in self.failures if each.about == "number"), None)

    @property
    def answered(self) -> bool:
        """Whether the provider said anything about the number."""
        return self.failure is None or self.failure.cause is not Cause.UNAVAILABLE

    @property
    def credential_refused(self) -> bool:
        """Whether nothing can be sent before there is a new token or API key."""
        return self.failure is not None and self.failure.cause is Cause.CREDENTIAL


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    level: Level
    code: str  # for programs
    text: str
    next: str  # what to do

    def __str__(self) -> str:
        return f"{self.text}; {self.next}" if self.next else self.text


def problems(report: Report, now: float) -> list[Problem]:
    """Everything that is wrong, the worst first. `now`: seconds since the epoch."""
    found = [*_failures(report), *_sending(report), *_standing(report), *_token(report, now), *_webhooks(report)]
    return sorted(found, key=lambda each: each.level is not Level.ERROR)


def level(found: list[Problem]) -> Level:
    """How bad it is as a whole."""
    return max((each.level for each in found), key=list(Level).index, default=Level.OK)


def expiry_date(moment: int | None) -> str:
    """A token's end as a day in UTC: `never`, or `-` where it is not known."""
    if moment is None:
        return "-"
    if moment == 0:
        return "never"
    try:
        return datetime.fromtimestamp(moment, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return "never"  # beyond every calendar


#: How a credential is entered.
RELINK = "`bisnesctl bots add … --token-stdin`"
_SET_WEBHOOK = "`bisnesctl bots add … --set-webhook`"
_CODES = {Cause.CREDENTIAL: "invalid_token", Cause.REFUSED: "number_refused", Cause.UNAVAILABLE: "unreachable"}


def _failures(report: Report) -> Iterator[Problem]:
    for each in report.failures:
        if each.about == "number":
            bad = Level.WARNING if each.cause is Cause.UNAVAILABLE else Level.ERROR
            yield Problem(bad, _CODES[each.cause], each.reason, each.advice)
        else:
            yield Problem(Level.WARNING, f"{each.about}_unknown", each.reason, each.advice)


def _sending(report: Report) -> Iterator[Problem]:
    words = "; ".join(report.hints) or "see the number in WhatsApp Manager"
    if report.can_send == "BLOCKED":
        yield Problem(Level.ERROR, "blocked", "the number may not send (BLOCKED)", words)
    elif report.can_send == "LIMITED":
        yield Problem(Level.WARNING, "limited", "the number may send only so much (LIMITED)", words)


#: A number's states (WhatsApp Business Phone Number, "status") in which it works, and in which it certainly does not.
_WORKING = {None, "CONNECTED", "FLAGGED", "RATE_LIMITED", "UNKNOWN"}
_GONE = {"BANNED", "DELETED", "DISCONNECTED", "MIGRATED", "OFFLINE", "RESTRICTED"}
_NAME_REFUSED = {"DECLINED", "EXPIRED"}


def _standing(report: Report) -> Iterator[Problem]:
    if report.status not in _WORKING:
        advice = "register it with its PIN (`bisnesctl bots add … --pin-stdin`), or see WhatsApp Manager"
        bad = Level.ERROR if report.status in _GONE else Level.WARNING
        yield Problem(bad, "not_connected", f"the number is {report.status}, not CONNECTED", advice)
    if report.status in ("FLAGGED", "RATE_LIMITED") or report.quality == "RED":
        advice = "stop bulk messages and see its quality in WhatsApp Manager"
        yield Problem(Level.WARNING, "quality", "people complain about messages from this number", advice)
    if report.name_status in _NAME_REFUSED:
        advice = "have another name approved in WhatsApp Manager"
        yield Problem(Level.WARNING, "name", f"the number's name is {report.name_status}", advice)


def _token(report: Report, now: float) -> Iterator[Problem]:
    if report.token_valid is False:
        yield Problem(
            Level.ERROR, "token_invalid", "the access token is not valid any more", f"enter a new one: {RELINK}"
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
                yield Problem(bad, code, text, f"enter a new token: {RELINK}")
    if report.missing_scopes:
        lacking = " and ".join(report.missing_scopes)
        yield Problem(
            Level.ERROR, "scopes", f"the token lacks {lacking}", f"make a token with it and enter it: {RELINK}"
        )


def _webhooks(report: Report) -> Iterator[Problem]:
    if report.subscribed is False:
        yield Problem(Level.ERROR, "no_webhooks", "no webhooks of this number are sent", f"set them up: {_SET_WEBHOOK}")
    elif report.webhook_url and report.expected_url and report.webhook_url != report.expected_url:
        text = f"webhooks go to {report.webhook_url}, not to {report.expected_url}"
        yield Problem(Level.ERROR, "webhook_elsewhere", text, f"check PUBLIC_URL, or have them here: {_SET_WEBHOOK}")
