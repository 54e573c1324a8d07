"""Reads the audit trail: the table and the spool, so that it can be read while the database is unavailable."""

from dataclasses import dataclass, replace
from typing import Any

import psycopg2

from bisnesctl import moments
from bisnesctl.audit import store, trail
from bisnesctl.audit.delivery import DATABASE_TIMEOUT_SECONDS
from bisnesctl.audit.record import AuditRecord
from bisnesctl.audit.store import AuditFilter
from bisnesctl.database import postgres
from bisnesctl.errors import BisnesError
from bisnesctl.settings import Settings


@dataclass(frozen=True)
class Trail:
    """The records that were found."""

    #: Newest first, with the keys of the documented JSON.
    records: list[dict[str, Any]]
    #: Why the table could not be read; empty if it was.
    unavailable: str
    #: The time and the id of the last one, if there may be more behind it.
    last: tuple[float, str] | None = None


def read(settings: Settings, wanted: AuditFilter) -> Trail:
    """The newest records that are wanted."""
    unavailable, stored = "", []
    try:
        with postgres.connected(settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection:
            stored = store.find(connection, replace(wanted, limit=wanted.limit + 1))
    except (BisnesError, psycopg2.Error) as error:
        unavailable = str(error).strip()
    found = {each["id"]: each | {"stored": True} for each in stored}
    for _, record in trail.waiting(settings.home):
        if record.id not in found and matches(record, wanted):
            found[record.id] = _shown(record)
    ordered = sorted(found.values(), key=lambda each: (each["at"], each["id"]), reverse=True)
    newest = ordered[: wanted.limit]
    last = (newest[-1]["at"], newest[-1]["id"]) if len(ordered) > wanted.limit else None
    return Trail([each | {"at": moments.iso(each["at"])} for each in newest], unavailable, last)


def matches(record: AuditRecord, wanted: AuditFilter) -> bool:
    """Whether a record of the spool is wanted, as the table would say."""
    who = f"{record.actor}\n{record.source}\n{record.origin}"
    what = f"{record.action}\n{record.arguments}\n{record.company or ''}"
    return (
        (wanted.since is None or record.at >= wanted.since)
        and (wanted.who is None or wanted.who.lower() in who.lower())
        and (wanted.what is None or wanted.what.lower() in what.lower())
        and wanted.outcome in (None, record.outcome)
        and (wanted.before is None or (record.at, record.id) < wanted.before)
    )


def _shown(record: AuditRecord) -> dict[str, Any]:
    names = ("id", "at", "source", "actor", "origin", "host", "company", "action", "arguments", "outcome")
    values = {name: getattr(record, name) for name in (*names, "code", "message", "seconds")}
    return values | {"stored": False}
