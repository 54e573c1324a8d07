"""Resolves messages whose outcome stays unknown: an operator says what became of them, or has them sent again.

`sent` and `failed` are noted here and recorded by a worker, with the history and the event that belong to them. A
report of the provider that comes later still counts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from bisnesctl.database import retries
from bisnesctl.database.postgres import Connection, query
from bisnesctl.database.retries import MessageFilter

_UNKNOWN = """
SELECT o.message_id::text, c.id IS NULL FROM unknown_message u JOIN outbox o USING (message_id)
    LEFT JOIN phone_configs c ON c.id = o.bot_id AND c.company_id = o.company_id
WHERE o.status = 'unknown'"""
_BY_ID = f"{_UNKNOWN} AND o.message_id = ANY(%s::uuid[])"
_BY_FILTER = f"""{_UNKNOWN} AND (%(code)s IS NULL OR o.error_code = %(code)s)
    AND (%(company)s IS NULL OR o.company_id = %(company)s) AND (%(phone)s IS NULL OR o.phone_index = %(phone)s)
    AND (%(since)s IS NULL OR u.since >= {{since}}) AND (%(until)s IS NULL OR u.since <= {{until}})
ORDER BY o.id LIMIT %(limit)s"""

_NOTE = """
UPDATE unknown_message u SET resolution = %s FROM outbox o
WHERE u.message_id = ANY(%s::uuid[]) AND o.message_id = u.message_id AND o.status = 'unknown'
RETURNING u.message_id::text"""


class Resolution(StrEnum):
    """The decision of an operator about a message whose outcome is unknown."""

    SENT = "sent"
    FAILED = "failed"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message whose outcome is unknown, and whether its bot was removed."""

    id: str
    removed: bool


def find(connection: Connection, wanted: MessageFilter) -> list[Unknown]:
    """The unknown messages that match, oldest first. Times are of when they became unknown.

    Raises `UsageError` for an invalid time.
    """
    statement = _BY_FILTER.format(
        since=retries.moment("since", wanted.since), until=retries.moment("until", wanted.until)
    )
    return [Unknown(*row) for row in query(connection, statement, asdict(wanted))]


def find_by_id(connection: Connection, message_ids: Sequence[str]) -> list[Unknown]:
    """Those of the messages whose outcome is unknown."""
    return [Unknown(*row) for row in query(connection, _BY_ID, (list(message_ids),))]


def resolve(connection: Connection, message_ids: Sequence[str], resolution: Resolution) -> list[str]:
    """Resolve unknown messages; returns their ids. Those whose outcome became known meanwhile are skipped.

    `AGAIN`: each returns to its place in its chat, and its recipient may get it twice. A message of WhatsApp Web is
    looked for in its chat before it is sent again.
    """
    if resolution is Resolution.AGAIN:
        return retries.retry(connection, message_ids, unknown=True)
    return [row[0] for row in query(connection, _NOTE, (resolution.value, list(message_ids)))]
