"""A media store whose files count against the quotas of their companies, and which removes those of refused requests.

Each file has a row in `media_file` with the number of its uses: the same file of the same company has the same key. The
row is committed before the file is stored. A file is deleted while its row is locked, so a process that
stores the same file meanwhile stores it afterwards.

The file of a message that is about to be accepted has a row in `media_upload`, too. If the process dies before, the row
remains, and `remove_abandoned` releases the file. The retention makes such a row again if it deletes the message and
the history does not have it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import structlog

from bisnesctl.database.quotas import MB_BYTES, Quota
from services.database.connection import (
    Connection,
    Database,
    DatabaseError,
    DatabaseUnavailable,
    query,
    query_value,
    transaction,
)
from services.media.base import MediaError, MediaQuotaExceeded, MediaStore, MediaUnavailable, Stored
from services.runtime.quotas import Quotas

#: Hours after which a file whose message was not accepted is abandoned. A request lasts less than one.
ABANDONED_AFTER_HOURS = 24
#: Abandoned files that are removed in one batch, at most.
MAX_ABANDONED = 100

_USED = "SELECT COALESCE(sum(bytes), 0)::bigint FROM media_file WHERE company_id = %s AND key <> %s"
_ADD = """
WITH upload AS (
    INSERT INTO media_upload (message_id, key)
    SELECT %(message)s::uuid, %(key)s WHERE %(message)s::uuid IS NOT NULL
)
INSERT INTO media_file AS f (key, company_id, bytes, uses) VALUES (%(key)s, %(company)s, %(bytes)s, 1)
ON CONFLICT (key) DO UPDATE SET uses = f.uses + 1 RETURNING uses = 1"""
# A file that was there before its row: a message from before the quotas has it.
_KEEP = "UPDATE media_file SET uses = uses + 1 WHERE key = %s"
_RELEASE = """
WITH upload AS (DELETE FROM media_upload WHERE message_id = %(message)s)
UPDATE media_file SET uses = uses - 1 WHERE key = %(key)s RETURNING uses"""
_FORGET = "DELETE FROM media_file WHERE key = %s"

_OLD = f"since < now() - {ABANDONED_AFTER_HOURS} * interval '1 hour'"
_SETTLE = f"""
DELETE FROM media_upload u WHERE {_OLD}
    AND (EXISTS (SELECT FROM outbox o WHERE o.message_id = u.message_id)
         OR EXISTS (SELECT FROM messages m WHERE m.id = u.message_id))"""
_ABANDONED = f"SELECT message_id::text, key FROM media_upload WHERE {_OLD} ORDER BY since LIMIT {MAX_ABANDONED}"

log = structlog.get_logger()


class CountedStore:
    """A `MediaStore` around another one."""

    def __init__(self, store: MediaStore, database: Database, quotas: Quotas) -> None:
        self._store, self._database, self._quotas = store, database, quotas

    def put(
        self, company_id: str, stream: BinaryIO, mime_type: str, limit: int,
        reserve: Callable[[Stored], None] = lambda _: None, message_id: str | None = None,
    ) -> Stored:  # fmt: skip
        """See `MediaStore`. `message_id`: the message with the file, if it is about to be accepted.

        Raises `MediaQuotaExceeded` too.
        """
        reserved: list[Stored] = []

        def count(stored: Stored) -> None:
            reserve(stored)
            self._count(company_id, stored, message_id)
            reserved.append(stored)

        try:
            return self._store.put(company_id, stream, mime_type, limit, count)
        except BaseException:
            for stored in reserved:
                self.release(stored.key, message_id)
            raise

    def release(self, key: str, message_id: str | None) -> None:
        """The message with this file was refused: the file is deleted if no other message has it. Raises nothing."""
        try:
            with self._database.connection() as connection:
                _release(connection, self._store, key, message_id)
        except (DatabaseUnavailable, DatabaseError, MediaError) as error:
            log.warning("media.not_released", key=key, reason=str(error).strip())

    def open(self, key: str) -> BinaryIO:
        """See `MediaStore`."""
        return self._store.open(key)

    def local_path(self, key: str) -> AbstractContextManager[Path]:
        """See `MediaStore`."""
        return self._store.local_path(key)

    def exists(self, key: str) -> bool:
        """See `MediaStore`."""
        return self._store.exists(key)

    def delete(self, key: str) -> None:
        """See `MediaStore`."""
        self._store.delete(key)
        with self._database.connection() as connection:
            query(connection, _FORGET, (key,))

    def _count(self, company_id: str, stored: Stored, message_id: str | None) -> None:
        limit = self._quotas.limit(company_id, Quota.MEDIA_MB)
        try:
            with self._database.connection() as connection:
                if limit is not None:
                    used = query_value(connection, _USED, (company_id, stored.key))
                    if used + stored.size > limit * MB_BYTES:
                        raise MediaQuotaExceeded(company_id, limit)
                values = {"key": stored.key, "company": company_id, "bytes": stored.size, "message": message_id}
                if query_value(connection, _ADD, values) and self._store.exists(stored.key):
                    query(connection, _KEEP, (stored.key,))
        except (DatabaseUnavailable, DatabaseError) as error:
            raise MediaUnavailable(f"the database is unavailable: {str(error).strip()}") from error


def _release(connection: Connection, store: MediaStore, key: str, message_id: str | None) -> bool:
    """Count a use of the file less; returns whether it was the last one, and the file was deleted."""
    with transaction(connection) as cursor:
        cursor.execute(_RELEASE, {"key": key, "message": message_id})
        row = cursor.fetchone()
        if row is None or row[0] > 0:
            return False
        store.delete(key)
        cursor.execute(_FORGET, (key,))
        return True


def remove_abandoned(connection: Connection, open_store: Callable[[], MediaStore]) -> Iterator[int]:
    """Delete the files that no message has, because their process died before it accepted the message, or because the
    message was deleted; yields their number, batch by batch.

    A file that another message has, or gets at this moment, stays. `open_store` is called if there may be any. Raises
    its errors and those of the store; the rest is left to the next time.
    """
    query(connection, _SETTLE)
    abandoned = query(connection, _ABANDONED)
    store = open_store() if abandoned else None
    while store is not None and abandoned:
        yield sum(_release(connection, store, key, message_id) for message_id, key in abandoned)
        abandoned = query(connection, _ABANDONED) if len(abandoned) == MAX_ABANDONED else []
