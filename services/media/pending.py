"""The files that are still with a provider: rows of `media_download`, whoever fetches them.

A row is claimed by dating its next attempt, so that nothing is locked during the download, and a process that dies with
it costs no more than that time.
"""

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from services.database.connection import Connection
from services.media import kinds
from services.media.store import Stored

#: Seconds after which a download whose process has died begins anew.
LEASE = 900
#: Seconds before the second attempt, how many times longer each further wait is, and the longest.
BACKOFF, GROWTH, LONGEST = 2, 4, 3600
#: Days after which a file is given up: the provider has deleted it.
KEPT = 7

_CLAIM = f"""
UPDATE media_download m SET due = now() + {LEASE} * interval '1 second', tried_at = now(),
    attempts = LEAST(attempts + 1, 32000)
WHERE message_id = (
    SELECT message_id FROM media_download WHERE due <= now() AND {{whose}} ORDER BY due LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING message_id::text, bot_id, company_id, media, attempts, created_at < now() - {KEPT} * interval '1 day'"""

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
    """The file that is due longest, or None.

    `whose`: SQL that says of a row whether it is the caller's; `before`: CTEs that it reads.
    """
    with connection.cursor() as cursor:
        cursor.execute(before + _CLAIM.format(whose=whose), values)
        row = cursor.fetchone()
    return PendingMedia(*row) if row else None


def keep(connection: Connection, message_id: str, stored: Stored, mime_type: str) -> None:
    """The file is in the store."""
    facts = {"key": stored.key, "mimeType": mime_type, "size": stored.size, "sha256": stored.sha256}
    with connection.cursor() as cursor:
        cursor.execute(_STORED, {"message": message_id, "facts": orjson.dumps(facts).decode()})


def put_off(connection: Connection, message_id: str, reason: str, seconds: float | None) -> None:
    """Note what went wrong and when to try again; None: it is given up, and stays for an operator to see."""
    with connection.cursor() as cursor:
        cursor.execute(_FAILED, (reason.replace("\0", ""), seconds, message_id))


def backoff(attempt: int) -> int:
    """Seconds between a failed attempt, counted from 1, and the next."""
    return int(min(BACKOFF * GROWTH ** min(attempt - 1, 10), LONGEST))


def is_other(path: Path, announced: object) -> bool:
    """Whether a file is another than the one whose SHA-256 was announced."""
    told = digest_of(announced) if isinstance(announced, str) else None
    return told is not None and told != _digest(path)


def digest_of(written: str) -> bytes | None:
    """A SHA-256 in hexadecimal or base64; None for what is neither."""
    try:
        found = bytes.fromhex(written) if len(written) == 64 else base64.b64decode(written, validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if len(found) == 32 else None


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def type_of(path: Path, told: str | None) -> str:
    """The type as it was told, parameters included, where the file is of that type."""
    with path.open("rb") as file:
        found = kinds.true_type(file.read(kinds.HEAD), told)
    return told if told and kinds.normalise(told) == found else found
