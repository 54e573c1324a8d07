"""Files that are still with their provider: rows of `media_download`, for every channel that fetches them.

Claiming a row postpones its next attempt. So nothing is locked during the download, and the death of a process costs
no more than that time.
"""

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bisnesctl.backoff import Backoff
from services.database.connection import Connection, query, query_one
from services.media import kinds
from services.media.store import Stored

#: Seconds after which a download whose process has died is claimed again.
LEASE_SECONDS = 900
#: The pauses between the attempts at a file. Without jitter: the rows are due at different times anyway.
BACKOFF = Backoff(first_seconds=2, growth=4, longest_seconds=3600)
#: Days for which a provider keeps a file.
KEPT_BY_PROVIDER_DAYS = 7

_CLAIM = f"""
UPDATE media_download m SET due = now() + {LEASE_SECONDS} * interval '1 second', tried_at = now(),
    attempts = LEAST(attempts + 1, 32000)
WHERE message_id = (
    SELECT message_id FROM media_download WHERE due <= now() AND {{whose}} ORDER BY due LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING message_id::text, bot_id, company_id, media, attempts,
    created_at < now() - {KEPT_BY_PROVIDER_DAYS} * interval '1 day'"""

_STORED = """
WITH done AS (DELETE FROM media_download WHERE message_id = %(message)s)
UPDATE messages SET media_metadata = COALESCE(media_metadata, '{}') || %(facts)s::jsonb WHERE id = %(message)s"""

_FAILED = """
UPDATE media_download SET error = %s, due = COALESCE(now() + %s * interval '1 second', 'infinity')
WHERE message_id = %s"""


class PendingMedia(NamedTuple):
    """A claimed file."""

    message_id: str
    bot_id: int
    company_id: str
    media: dict[str, Any]
    attempt: int  # from 1
    old: bool  # whether the provider's time to keep it is over


def claim(connection: Connection, whose: str, values: dict[str, Any], before: str = "") -> PendingMedia | None:
    """Claim the file that has been due longest, if one is due.

    `whose`: SQL condition for the caller's rows; `before`: CTEs that it reads.
    """
    row = query_one(connection, before + _CLAIM.format(whose=whose), values)
    return PendingMedia(*row) if row else None


def keep(connection: Connection, message_id: str, stored: Stored, mime_type: str) -> None:
    """The file is in the store."""
    facts = {"key": stored.key, "mimeType": mime_type, "size": stored.size, "sha256": stored.sha256}
    query(connection, _STORED, {"message": message_id, "facts": orjson.dumps(facts).decode()})


def put_off(connection: Connection, message_id: str, reason: str, seconds: float | None) -> None:
    """Record the failure and the time of the next attempt; None: there is none, and the row stays as a dead letter."""
    query(connection, _FAILED, (reason.replace("\0", ""), seconds, message_id))


def is_other(path: Path, announced: object) -> bool:
    """Whether a file differs from the one whose SHA-256 was announced."""
    expected = digest_of(announced) if isinstance(announced, str) else None
    if expected is None:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest() != expected


def digest_of(written: str) -> bytes | None:
    """A SHA-256 in hexadecimal or base64; None for any other text."""
    try:
        found = bytes.fromhex(written) if len(written) == 64 else base64.b64decode(written, validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if len(found) == 32 else None


def type_of(path: Path, declared: str | None) -> str:
    """The declared type with its parameters if the file is of that type, otherwise its true type."""
    with path.open("rb") as file:
        found = kinds.true_type(file.read(kinds.HEAD), declared)
    return declared if declared and kinds.normalise(declared) == found else found
