"""Calls of our HTTP API whose caller records them in the audit trail itself, so that one action is one record.

The dashboard records what a person does under the person's name. The API would record the same call under the name of
the key. A header says that the caller records it, and proves that it is a program of this deployment: it follows from
ENCRYPTION_KEY. A key of the API alone does not suffice.
"""

import hmac

from bisnesctl import encryption
from bisnesctl.settings import Settings

#: The header of a call that its caller records.
HEADER = "X-Audit-Recorded"
_PURPOSE = "call that its caller records"


def headers(settings: Settings) -> dict[str, str]:
    """The header of a call that the caller records; none without ENCRYPTION_KEY."""
    key = settings.encryption_key.get_secret_value()
    return {HEADER: encryption.derived(key, _PURPOSE)} if key else {}


def is_recorded(settings: Settings, value: str) -> bool:
    """Whether the value of the header comes from a program of this deployment."""
    if not value:
        return False
    proofs = [encryption.derived(key, _PURPOSE) for key in settings.decryption_keys if key]
    return any(hmac.compare_digest(value.encode(), proof.encode()) for proof in proofs)
