"""The ways to delete old rows: in small batches, each in a transaction of its own, which never wait for a row's lock.

A run may end after any batch; the next one continues. The cutoff of a rule is `CUTOFF`, whose values a run supplies:
`now`, when it began, by the database's clock, and `days`, for which the rows are kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bisnesctl.database.postgres import Connection, query

#: The moment before which a row is old.
CUTOFF = "%(now)s::timestamptz - %(days)s * interval '1 day'"
#: Rows that are deleted in one transaction, at most.
BATCH_ROWS = 1000
#: Rows that are looked for at a time: a table without a suitable index is then read once, not once for each batch.
FOUND_ROWS = 20_000

Values = Mapping[str, Any]


class Removal(Protocol):
    """Deletes the old rows of a rule."""

    def batches(self, connection: Connection, values: Values) -> Iterator[int]:
        """Deletes one batch after the other; yields the number of rows of each, which may be 0."""

    def count(self, connection: Connection, values: Values) -> int:
        """The number of rows that are old now."""


@dataclass(frozen=True)
class Rows:
    """All rows of a table that meet a condition."""

    table: str
    condition: str

    def batches(self, connection: Connection, values: Values) -> Iterator[int]:
        """See `Removal`. Rows that somebody else has locked are left to the next run."""
        find = f"SELECT ctid::text FROM {self.table} WHERE {self.condition} LIMIT {FOUND_ROWS}"
        delete = f"""
            WITH gone AS (
                DELETE FROM {self.table} WHERE ctid = ANY(ARRAY(
                    SELECT ctid FROM {self.table} WHERE ctid = ANY(%(found)s::tid[]) AND {self.condition}
                    FOR UPDATE SKIP LOCKED))
                RETURNING 1)
            SELECT count(*)::int FROM gone"""
        found = [place for (place,) in query(connection, find, values)]
        while found:
            deleted = 0
            for first in range(0, len(found), BATCH_ROWS):
                batch = dict(values) | {"found": found[first : first + BATCH_ROWS]}
                rows = int(query(connection, delete, batch)[0][0])
                deleted += rows
                yield rows
            is_last = len(found) < FOUND_ROWS or not deleted
            found = [] if is_last else [place for (place,) in query(connection, find, values)]

    def count(self, connection: Connection, values: Values) -> int:
        """See `Removal`."""
        return int(query(connection, f"SELECT count(*)::int FROM {self.table} WHERE {self.condition}", values)[0][0])


@dataclass(frozen=True)
class OldestRows:
    """Rows of a large table whose ids are in the order of their times, so that only its old part is read."""

    table: str
    #: The column with the time by which a row is in the old part.
    time: str
    #: Which rows of the old part are deleted.
    condition: str

    def batches(self, connection: Connection, values: Values) -> Iterator[int]:
        """See `Removal`."""
        walk = f"""
            WITH walked AS (
                SELECT id, {self.time} < {CUTOFF} AS old, {self.condition} AS goes FROM {self.table}
                WHERE id > %(after)s ORDER BY id LIMIT {BATCH_ROWS}
            ), free AS (
                SELECT id FROM {self.table} WHERE id IN (SELECT id FROM walked WHERE goes) FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM {self.table} t USING free WHERE t.id = free.id RETURNING 1
            )
            SELECT max(id), count(*)::int, bool_or(old), (SELECT count(*)::int FROM gone) FROM walked"""
        after, number, old = -1, BATCH_ROWS, True
        while old and number == BATCH_ROWS:
            after, number, old, deleted = query(connection, walk, dict(values) | {"after": after})[0]
            yield deleted

    def count(self, connection: Connection, values: Values) -> int:
        """See `Removal`."""
        return int(query(connection, f"SELECT count(*)::int FROM {self.table} WHERE {self.condition}", values)[0][0])
