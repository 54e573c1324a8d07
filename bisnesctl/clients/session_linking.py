"""Links a WhatsApp Web number: follows its session through the API until a phone is linked."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bisnesctl.clients.api_client import ApiClient
from bisnesctl.errors import BisnesError, Conflict

#: Seconds between two looks; a QR code is shown for twenty at least.
INTERVAL = 1.0
#: Seconds that a session has to come up.
START_PATIENCE = 120.0
#: Seconds for which a pairing code is waited for before another one is asked for; WhatsApp's live three minutes.
PAIRING_LIFETIME = 170.0


@dataclass(frozen=True, slots=True)
class QrCode:
    """A QR code that is to be scanned."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PairingCode:
    """A pairing code that is to be typed in."""

    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Waiting:
    """It is on its way, and why it is not there yet."""

    reason: str


@dataclass(frozen=True, slots=True)
class LinkedPhone:
    """It is done."""

    number: str | None


Step = QrCode | PairingCode | Waiting | LinkedPhone


def follow(api: ApiClient, company: str, phone: int, number: str | None = None) -> Iterator[Step]:
    """Starts the session if need be, gives each new code and what keeps it from one, and ends with `LinkedPhone`.

    `number`: of the phone, which is then linked by a pairing code. Raises `Conflict` where the session is blocked,
    `BisnesError` where it fails or does not come up, and what `ApiClient` raises.
    """
    before = _start(api, company, phone)
    deadline = time.monotonic() + START_PATIENCE
    codes, told = _Codes(api, company, phone, number), before["reason"]
    while (session := api.session(company, phone))["status"] != "WORKING":
        _check(session, before)
        if session["status"] == "SCAN_QR_CODE":
            deadline = time.monotonic() + START_PATIENCE
            yield from codes.fresh()
        elif time.monotonic() > deadline:
            raise BisnesError(f"the session does not come up, it is {session['status']}{_why(session)}")
        elif session["reason"] and session["reason"] != told:
            told = session["reason"]
            yield Waiting(told)
        time.sleep(INTERVAL)
    yield LinkedPhone(session["number"])


class _Codes:
    """The codes of one session, each once."""

    def __init__(self, api: ApiClient, company: str, phone: int, number: str | None) -> None:
        self._api, self._bot, self._number = api, (company, phone), number
        self._last: str | None = None
        self._made = 0.0

    def fresh(self) -> Iterator[QrCode | PairingCode]:
        """The code that is to be shown from now on, where there is a new one."""
        if self._number is not None:
            if self._last is None or time.monotonic() - self._made > PAIRING_LIFETIME:
                self._last, self._made = self._api.pairing_code(*self._bot, self._number), time.monotonic()
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
    """Raises where it failed since we looked first."""
    failed = session["status"] == "FAILED" and session["changedAt"] != before["changedAt"]
    if session["block"]:
        hint = _unblock(session["companyId"], session["phoneIndex"])
        raise Conflict(f"the session was blocked: {session['block']['reason']}. {hint}")
    if failed:
        raise BisnesError(f"the session failed{_why(session)}; see `bisnesctl logs`")


def _why(session: dict[str, Any]) -> str:
    return f": {session['reason']}" if session["reason"] else ""


def _unblock(company: str, phone: int) -> str:
    return f"Once its cause is gone: `bisnesctl bots unblock {company} {phone}`"
