"""The table `audit_record`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bisnesctl.audit.record import AuditRecord
from bisnesctl.database.postgres import Connection, containing, query

_INSERT = """
INSERT INTO audit_record (id, at, source, actor, origin, host, company_id, action, arguments, outcome, code, message,
    seconds)
SELECT id, to_timestamp(at), source, actor, origin, host, company, action, arguments, outcome, code, message, seconds
FROM json_to_recordset(%s::json) AS r (id uuid, at float, source text, actor text, origin text, host text, company text,
    action text, arguments jsonb, outcome text, code text, message text, seconds float)
ON CONFLICT (id) DO NOTHING"""
#: The SQL of a page.
FIND = """
SELECT id::text, extract(epoch FROM at)::float, source, actor, origin, host, company_id, action, arguments, outcome,
    code, message, seconds
FROM audit_record
WHERE (%(since)s::float IS NULL OR at >= to_timestamp(%(since)s::float))
    AND (%(who)s::text IS NULL OR actor ILIKE %(who)s OR source ILIKE %(who)s OR origin ILIKE %(who)s)
    AND (%(what)s::text IS NULL OR action ILIKE %(what)s OR arguments::text ILIKE %(what)s OR company_id ILIKE %(what)s)
    AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
    AND (%(before)s::float IS NULL OR (at, id) < (to_timestamp(%(before)s::float), %(before_id)s::uuid))
ORDER BY at DESC, id DESC LIMIT %(limit)s"""


@dataclass(frozen=True)
class AuditFilter:
    """The records that are wanted."""

    #: Seconds since the epoch.
    since: float | None = None
    #: A part of the actor, the source or the origin.
    who: str | None = None
    #: A part of the action, its arguments or the company.
    what: str | None = None
    outcome: str | None = None
    limit: int = 50
    #: The time and the id of a record: only those behind it.
    before: tuple[float, str] | None = None


def insert(connection: Connection, records: Sequence[AuditRecord]) -> None:
    """Stores records in one transaction, those that are there already excepted."""
    content = b",".join(each.content() for each in records).decode()
    with connection:
        query(connection, _INSERT, (f"[{content}]",))


def find(connection: Connection, wanted: AuditFilter) -> list[dict[str, Any]]:
    """The newest records that are wanted, newest first, as documented in the reference of `audit --json`."""
    values = {
        "since": wanted.since,
        "who": containing(wanted.who),
        "what": containing(wanted.what),
        "outcome": wanted.outcome,
        "limit": wanted.limit,
        "before": wanted.before and wanted.before[0],
        "before_id": wanted.before and wanted.before[1],
    }
    names = (
        *("id", "at", "source", "actor", "origin", "host", "company", "action", "arguments", "outcome"),
        *("code", "message", "seconds"),
    )
    return [dict(zip(names, row, strict=True)) for row in query(connection, FIND, values)]
