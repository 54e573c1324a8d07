"""A media store whose files count against the quotas of their companies, and which removes those of refused requests.

Each file has a row in `media_file` with the number of its uses: the same file of the same company has the same key. The
row is committed before the file is stored. A file is deleted while its row is locked, so a process that
stores the same file meanwhile stores it afterwards.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import structlog

from bisnesctl.database.quotas import MB_BYTES, Quota
from services.database.connection import Database, DatabaseError, DatabaseUnavailable, query, query_value, transaction
from services.media.base import MediaError, MediaQuotaExceeded, MediaStore, MediaUnavailable, Stored
from services.runtime.quotas import Quotas

_USED = "SELECT COALESCE(sum(bytes), 0)::bigint FROM media_file WHERE company_id = %s AND key <> %s"
_ADD = """
INSERT INTO media_file AS f (key, company_id, bytes, uses) VALUES (%s, %s, %s, 1)
ON CONFLICT (key) DO UPDATE SET uses = f.uses + 1 RETURNING uses = 1"""
# A file that was there before its row: a message from before the quotas has it.
_KEEP = "UPDATE media_file SET uses = uses + 1 WHERE key = %s"
_RELEASE = "UPDATE media_file SET uses = uses - 1 WHERE key = %s RETURNING uses"
_FORGET = "DELETE FROM media_file WHERE key = %s"

log = structlog.get_logger()


class CountedStore:
    """A `MediaStore` around another one."""

    def __init__(self, store: MediaStore, database: Database, quotas: Quotas) -> None:
        self._store, self._database, self._quotas = store, database, quotas

    def put(
        self, company_id: str, stream: BinaryIO, mime_type: str, limit: int,
        reserve: Callable[[Stored], None] = lambda _: None,
    ) -> Stored:  # fmt: skip
        """See `MediaStore`. Raises `MediaQuotaExceeded` too."""
        reserved: list[Stored] = []

        def count(stored: Stored) -> None:
            reserve(stored)
            self._count(company_id, stored)
            reserved.append(stored)

        try:
            return self._store.put(company_id, stream, mime_type, limit, count)
        except BaseException:
            for stored in reserved:
                self.release(stored.key)
            raise

    def release(self, key: str) -> None:
        """A message with this file was refused: the file is deleted if no other message has it. Raises nothing."""
        try:
            with self._database.connection() as connection, transaction(connection) as cursor:
                cursor.execute(_RELEASE, (key,))
                row = cursor.fetchone()
                if row is not None and row[0] <= 0:
                    self._store.delete(key)
                    cursor.execute(_FORGET, (key,))
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

    def _count(self, company_id: str, stored: Stored) -> None:
        limit = self._quotas.limit(company_id, Quota.MEDIA_MB)
        try:
            with self._database.connection() as connection:
                if limit is not None:
                    used = query_value(connection, _USED, (company_id, stored.key))
                    if used + stored.size > limit * MB_BYTES:
                        raise MediaQuotaExceeded(company_id, limit)
                if query_value(connection, _ADD, (stored.key, company_id, stored.size)) and self._store.exists(
                    stored.key
                ):
                    query(connection, _KEEP, (stored.key,))
        except (DatabaseUnavailable, DatabaseError) as error:
            raise MediaUnavailable(f"the database is unavailable: {str(error).strip()}") from error
