"""Links a phone to a WhatsApp Web bot: follows its session through the API until it is linked."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bisnesctl.clients.api_client import ApiClient
from bisnesctl.errors import BisnesError, Conflict

#: Seconds between looks at the session; a QR code is shown for at least 20 seconds.
POLL_INTERVAL_SECONDS = 1.0
#: Seconds in which a session must start.
START_TIMEOUT_SECONDS = 120.0
#: Seconds after which a new pairing code is requested; WhatsApp's codes are valid for three minutes.
PAIRING_LIFETIME_SECONDS = 170.0


@dataclass(frozen=True, slots=True)
class QrCode:
    """A QR code to scan."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PairingCode:
    """A pairing code to type on the phone."""

    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Waiting:
    """There is no code yet, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class LinkedPhone:
    """A phone is linked."""

    number: str | None


Step = QrCode | PairingCode | Waiting | LinkedPhone


def follow(api: ApiClient, company: str, phone: int, number: str | None = None) -> Iterator[Step]:
    """Starts the session if necessary, yields each new code or the reason for waiting, and ends with `LinkedPhone`.

    `number`: links the phone with this number by a pairing code. Raises `Conflict` if the session is blocked,
    `BisnesError` if it fails or does not start in time, and the errors of `ApiClient`.
    """
    before = _start(api, company, phone)
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    codes, reported = _Codes(api, company, phone, number), before["reason"]
    while (session := api.session(company, phone))["status"] != "WORKING":
        _check(session, before)
        if session["status"] == "SCAN_QR_CODE":
            deadline = time.monotonic() + START_TIMEOUT_SECONDS
            yield from codes.new()
        elif time.monotonic() > deadline:
            raise BisnesError(f"the session did not start in time, it is {session['status']}{_why(session)}")
        elif session["reason"] and session["reason"] != reported:
            reported = session["reason"]
            yield Waiting(reported)
        time.sleep(POLL_INTERVAL_SECONDS)
    yield LinkedPhone(session["number"])


class _Codes:
    """The codes of one session, without repetitions."""

    def __init__(self, api: ApiClient, company: str, phone: int, number: str | None) -> None:
        self._api = api
        self._bot = (company, phone)
        self._number = number
        self._last: str | None = None
        self._made = 0.0

    def new(self) -> Iterator[QrCode | PairingCode]:
        """The new code, if there is one."""
        if self._number is not None:
            if self._last is None or time.monotonic() - self._made > PAIRING_LIFETIME_SECONDS:
                self._last = self._api.pairing_code(*self._bot, self._number)
                self._made = time.monotonic()
                yield PairingCode(self._last)
            return
        text = self._api.qr_code(*self._bot)
        if text is not None and text != self._last:
            self._last = text
            yield QrCode(text)


def _start(api: ApiClient, company: str, phone: int) -> dict[str, Any]:
    session = api.session(company, phone)
    if session["block"]:
        raise Conflict(f"the session is blocked: {session['block']['reason']}. {_unblock(company, phone)}")
    if not session["wanted"] or session["status"] in ("STOPPED", "FAILED"):
        api.start_session(company, phone)
    return session


def _check(session: dict[str, Any], before: dict[str, Any]) -> None:
    """Raises if the session was blocked, or failed since the first look."""
    failed = session["status"] == "FAILED" and session["changedAt"] != before["changedAt"]
    if session["block"]:
        hint = _unblock(session["companyId"], session["phoneIndex"])
        raise Conflict(f"the session was blocked: {session['block']['reason']}. {hint}")
    if failed:
        raise BisnesError(f"the session failed{_why(session)}; see `bisnesctl logs`")


def _why(session: dict[str, Any]) -> str:
    return f": {session['reason']}" if session["reason"] else ""


def _unblock(company: str, phone: int) -> str:
    return f"After removing the cause: `bisnesctl bots unblock {company} {phone}`"
