"""The signature of Meta's webhooks: HMAC-SHA256 over the raw bytes, keyed with the app's secret."""

import hashlib
import hmac

#: The header that carries it.
HEADER = "X-Hub-Signature-256"


def sign(app_secret: str, raw_body: bytes) -> str:
    """The header's value for a body: `sha256=` and 64 hex digits."""
    return f"sha256={hmac.digest(app_secret.encode(), raw_body, hashlib.sha256).hex()}"


def verify_signature(app_secret: str, raw_body: bytes, header: str | None) -> bool:
    """Whether the body was signed with the secret; in constant time. Without a secret nothing counts as signed."""
    if not app_secret or not header:
        return False
    return hmac.compare_digest(sign(app_secret, raw_body).encode(), header.encode(errors="replace"))
