"""How a customer knows that a webhook is ours: HMAC-SHA512 over the body as it was sent, with the webhook's secret."""

import hashlib
import hmac
import time

from uuid_utils import uuid7

from bisnesctl import __version__

ALGORITHM = "sha512"


def signature(secret: str, body: bytes) -> str:
    """The HMAC in lower-case hex."""
    return hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()


def headers(secret: str, previous: str | None, body: bytes, attempt: int) -> tuple[str, ...]:
    """The headers of one attempt, as lines.

    `previous`: the secret that is being replaced, while it still counts; `attempt`: from 1.
    """
    lines = (
        "Content-Type: application/json",
        f"User-Agent: bisnesctl/{__version__}",
        f"X-Webhook-Request-Id: {uuid7()}",
        f"X-Webhook-Timestamp: {time.time_ns() // 1_000_000}",
        f"X-Webhook-Attempt: {attempt}",
        f"X-Webhook-Hmac-Algorithm: {ALGORITHM}",
        f"X-Webhook-Hmac: {signature(secret, body)}",
    )
    return lines if previous is None else (*lines, f"X-Webhook-Hmac-Previous: {signature(previous, body)}")
