"""Signs the calls of webhooks, so that a customer can verify them: HMAC-SHA512 over the body with a shared secret."""

import hashlib
import hmac
import time

from uuid_utils import uuid7

from bisnesctl import __version__

ALGORITHM = "sha512"

#: The headers of a call that are our own, with their meaning.
HEADERS = {
    "X-Webhook-Request-Id": "A UUID of this call; another one for each attempt. The event's `id` stays the same.",
    "X-Webhook-Timestamp": "When this call was made, in milliseconds since the epoch.",
    "X-Webhook-Attempt": "1, 2, 3, …",
    "X-Webhook-Hmac-Algorithm": f"`{ALGORITHM}`.",
    "X-Webhook-Hmac": "HMAC-SHA512 in hex over the body as it was received, with the webhook's secret.",
    "X-Webhook-Hmac-Previous": "The same with the previous secret; present only while a rotation overlaps.",
}


def signature(secret: str, body: bytes) -> str:
    """The HMAC in lower-case hex."""
    return hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()


def headers(secret: str, previous: str | None, body: bytes, attempt: int) -> tuple[str, ...]:
    """The headers of one attempt, as lines.

    `previous`: the secret that is being replaced, while it is still valid; `attempt`: from 1.
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
