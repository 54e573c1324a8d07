"""One-time codes of an authenticator app (TOTP, RFC 6238): six digits that change every 30 seconds."""

import hmac
import re
import time

import pyotp

#: Seconds for which a code is shown.
PERIOD_SECONDS = 30
#: Periods before and after this one whose codes are accepted, since clocks differ.
TOLERANCE = 1
#: The name that the app shows beside the person's.
ISSUER = "bisnesctl"
_SECRET = re.compile(r"[A-Z2-7]{32}")


def new_secret() -> str:
    """A new secret, in base32."""
    return pyotp.random_base32()


def is_secret(text: str) -> bool:
    """Whether a text is a secret as `new_secret` makes it."""
    return _SECRET.fullmatch(text) is not None


def address(secret: str, name: str) -> str:
    """The `otpauth://` address that an app reads as a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=ISSUER)


def period_of(secret: str, code: str, now: float | None = None) -> int | None:
    """The period whose code this is; None if it is of none that is accepted."""
    typed = "".join(sign for sign in code if sign.isascii() and sign.isdigit())
    current = int((time.time() if now is None else now) // PERIOD_SECONDS)
    totp, found = pyotp.TOTP(secret, interval=PERIOD_SECONDS), None
    for period in range(current - TOLERANCE, current + TOLERANCE + 1):
        if hmac.compare_digest(totp.generate_otp(period), typed):
            found = period
    return found
