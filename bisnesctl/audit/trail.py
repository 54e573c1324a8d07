"""The spool of the audit trail: records on their way to the database, a file each."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bisnesctl.audit.record import AuditRecord, Source
from bisnesctl.host import record_folder

#: The folder of the records, below the home.
FOLDER = "audit-spool"
#: Records that wait for the database, at most.
MAX_RECORDS = 10_000


def add(home: Path, record: AuditRecord) -> Path | None:
    """Stores a record and returns its file, or None if that is impossible."""
    return record_folder.add(home / FOLDER, record.at, record.content(), MAX_RECORDS)


def add_or_log(home: Path, record: AuditRecord) -> None:
    """Stores a record of a service. One that cannot be stored is logged in full. Never raises."""
    if add(home, record) is None:
        import structlog  # slow, and commands use this module

        log = structlog.get_logger()
        log.error("audit.record_unstored", record=record.content().decode(), spool=str(home / FOLDER))


def add_decision(home: Path, source: Source, decision: str, about: str, reason: str) -> None:
    """Stores a decision that the guard or the manager made by itself, about an instance or a session. Never raises."""
    add_or_log(home, AuditRecord(source, source.value, "", decision, [about], message=reason))


def replace(file: Path, record: AuditRecord) -> bool:
    """Stores the end of an action; returns whether that was possible."""
    try:
        record_folder.replace(file, record.content())
    except OSError:
        return False
    return True


def waiting(home: Path) -> Iterator[tuple[Path, AuditRecord]]:
    """The records of the spool with their files, oldest first. A damaged file is skipped."""
    for file in record_folder.files(home / FOLDER):
        with contextlib.suppress(OSError, ValueError):
            yield file, AuditRecord.read(file.read_bytes())
